"""Rows that training keeps aside: chosen by the rule that rows are held out by."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, Examples, examples_of, load_examples
from mofang.make.recipe import Dense, RandomForest, Splitting, Train
from mofang.make.train.sklearn import train as train_forest
from mofang.make.train.torch import train as torch

Prepared = Callable[..., Dataset]


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Of 60 patients ten visits each: measurements tell who it is, and by nothing else what they have."""
    random = np.random.default_rng(0)
    marks, ill = random.normal(size=(60, 4)) * 3, random.permutation(np.arange(60) % 2)
    lines = ["patient,day,a,b,c,d,y"]
    for patient in range(60):
        for visit in range(10):
            seen = marks[patient] + random.normal(size=4) / 50
            lines.append(f"p{patient},2026-03-{visit + 1:02},{','.join(f'{v:.4f}' for v in seen)},{'ny'[ill[patient]]}")
    (tmp_path / "patients.csv").write_text("\n".join(lines))
    return tmp_path / "patients.csv"


def _examples(prepared: Prepared, blobs: DiskBlobs, path: Path, by: str, column: str = "") -> Examples:
    columns = {"patient": "drop", "day": "drop"} if by == "rows" else {"patient": "drop"}
    split = Splitting(by=by, column=column)  # type: ignore[arg-type]
    return load_examples(blobs, prepared(f"csv:{path}", columns=columns, split=split))


@pytest.mark.parametrize(
    ("spec", "train"),
    [
        (RandomForest(trees=20, validation_fraction=0.25), train_forest),
        (Dense(hidden=(64,), epochs=60, learning_rate=0.03, batch_size=0, validation_fraction=0.25), torch.train),
    ],
    ids=["forest", "network"],
)
def test_the_curve_does_not_flatter_where_rows_of_one_group_resemble_each_other(
    prepared: Prepared, blobs: DiskBlobs, patients: Path, spec: Train, train: Callable[..., object]
) -> None:
    accuracy = {}
    for by, column in (("rows", ""), ("group", "patient")):
        model = train(spec, _examples(prepared, blobs, patients, by, column), Silent())
        accuracy[by] = model.curve[-1]["accuracy"]  # type: ignore[attr-defined]
    assert accuracy["rows"] > 0.9  # they are known from other visits
    assert accuracy["group"] < 0.75  # they are not known


def test_whole_groups_are_kept_aside(prepared: Prepared, blobs: DiskBlobs, patients: Path) -> None:
    examples = _examples(prepared, blobs, patients, "group", "patient")
    assert examples.apart is not None
    aside = examples.aside(0.25, 3)
    assert not set(examples.apart[aside]) & set(examples.apart[~aside])
    assert 0.15 < aside.mean() < 0.35
    assert (aside == examples.aside(0.25, 3)).all()
    assert (aside != examples.aside(0.25, 4)).any()
    some = examples.some(np.flatnonzero(aside))
    assert some.apart is not None
    assert (some.apart == examples.apart[aside]).all()


def test_the_latest_rows_are_kept_aside(prepared: Prepared, blobs: DiskBlobs, patients: Path) -> None:
    examples = _examples(prepared, blobs, patients, "time", "day")
    assert examples.apart is not None
    aside = examples.aside(0.2, 0)
    assert examples.apart[~aside].max() < examples.apart[aside].min()


def test_rows_of_a_class_that_nothing_else_shows_are_learned_from(
    prepared: Prepared, blobs: DiskBlobs, tmp_path: Path
) -> None:
    lines = [f"{day},{day % 7}.5,{'rare' if day in (38, 39) else 'ab'[day % 2]}" for day in range(50)]
    (tmp_path / "days.csv").write_text("day,x,y\n" + "\n".join(lines))
    dataset = prepared(f"csv:{tmp_path / 'days.csv'}", split=Splitting(by="time", column="day"))
    examples = load_examples(blobs, dataset)
    aside = examples.aside(0.2, 0)
    assert set(examples.target) == set(examples.target[~aside]) == {0, 1, 2}
    assert examples.features[aside][:, 0].tolist() == [32, 33, 34, 35, 36, 37]


def test_the_rule_is_part_of_the_digest(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("g,x,y\n" + "\n".join(f"{row % 10},{row}.5,{'ab'[row % 2]}" for row in range(100)))
    settings = {"columns": {"g": "drop"}}
    by_group = prepared(f"csv:{tmp_path / 'a.csv'}", split=Splitting(by="group", column="g"), **settings)
    by_time = prepared(f"csv:{tmp_path / 'a.csv'}", split=Splitting(by="time", column="g"), **settings)
    at_random = prepared(f"csv:{tmp_path / 'a.csv'}", **settings)
    assert len({by_group.digest, by_time.digest, at_random.digest}) == 3
    assert (
        by_group.splits["train"].apart
        == prepared(f"csv:{tmp_path / 'a.csv'}", split=Splitting(by="group", column="g"), **settings)
        .splits["train"]
        .apart
    )
    assert not at_random.splits["train"].apart


def test_too_few_rows_to_keep_some_aside() -> None:
    examples = examples_of(np.arange(4, dtype=np.float32).reshape(2, 2), np.array([0, 1]))
    with pytest.raises(InvalidDataset, match="2 rows are too few to keep some aside"):
        examples.aside(0.5, 0)
