"""Tables of mixed columns: what each column is taken for, what is left out, and how rows are held out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_examples, load_split
from mofang.make.prepare.encode import names_of
from mofang.make.recipe import Clean, Encode, Splitting

Prepared = Callable[..., Dataset]
ROWS = 120


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Flights: a number with gaps, a category, a time, a note, an identifier, what to predict."""
    random = np.random.default_rng(0)
    lines = ["distance,carrier,time,note,tail,late"]
    for row in range(ROWS):
        carrier = ("UA", "AA", "B6")[row % 3]
        note = f"flight number {row} went to somewhere"
        distance = "NA" if row % 40 == 7 else f"{random.normal():.3f}"
        late = "yes" if row % 2 else "no"
        lines.append(f"{distance},{carrier},2026-01-{row % 28 + 1:02}T{row % 24:02}:00,{note},N{row},{late}")
    (tmp_path / "flights.csv").write_text("\n".join(lines))
    return tmp_path / "flights.csv"


def test_columns_are_known_by_what_they_hold(prepared: Prepared, blobs: DiskBlobs, table: Path) -> None:
    dataset = prepared(f"csv:{table}", encode=Encode(vocabulary=10))
    schema = dataset.schema
    assert {column.name: column.kind for column in schema.columns} == {
        "distance": "number", "carrier": "category", "time": "date", "note": "text",
    }  # fmt: skip
    assert dict(dataset.removed) == {"missing or infinite values": 3}
    names = names_of(schema.columns)
    assert names[:2] == ["distance", "carrier=AA"]
    assert names[4:10] == ["time.year", "time.month", "time.day", "time.weekday", "time.hour", "note[0]"]
    examples = load_examples(blobs, dataset)
    rows = examples.rows()
    assert rows.shape == (len(examples.features), schema.features)
    assert set(rows[:, 4]) == {2026.0}
    assert ((rows[:, 1:4] == 1).sum(axis=1) <= 1).all()


def test_the_recipe_says_what_columns_are(prepared: Prepared, table: Path) -> None:
    columns = {"tail": "category", "note": "drop", "time": "drop"}
    dataset = prepared(f"csv:{table}", columns=columns, encode=Encode(most=5))
    assert [(column.name, column.width) for column in dataset.schema.columns][1:] == [("carrier", 3), ("tail", 5)]
    with pytest.raises(InvalidDataset, match=r"line 2: column 'carrier' must be a number, got 'UA'"):
        prepared(f"csv:{table}", columns={"carrier": "number"})
    with pytest.raises(InvalidDataset, match="there is no column 'tale'"):
        prepared(f"csv:{table}", columns={"tale": "drop"})


def test_missing_values_are_kept_or_filled_in(prepared: Prepared, blobs: DiskBlobs, table: Path) -> None:
    kept = prepared(f"csv:{table}", clean=Clean(missing="keep"))
    assert np.isnan(load_examples(blobs, kept).rows()[:, 0]).sum() + np.isnan(
        load_examples(blobs, kept, split="test").rows()[:, 0]
    ).sum() == len(range(7, ROWS, 40))
    filled = prepared(f"csv:{table}", clean=Clean(missing="fill"))
    stored, seen = load_split(blobs, filled, "train")[0], load_examples(blobs, filled).rows()
    assert not np.isnan(seen).any()
    assert set(seen[np.isnan(stored[:, 0]), 0]) == {np.float32(np.nanmedian(stored[:, 0]))}
    assert not kept.removed


def test_numbers_alone_stay_one_input_and_are_filled_in_too(
    prepared: Prepared, blobs: DiskBlobs, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,z\n" + "".join(f"{row},{'' if row % 5 else row},{row % 2}\n" for row in range(50)))
    dataset = prepared(f"csv:{path}", clean=Clean(missing="fill"))
    assert (dataset.schema.columns, dataset.schema.features) == ((), 2)
    assert not np.isnan(load_examples(blobs, dataset).rows()).any()


def test_means_of_the_target_stand_for_categories(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("kind,cost\n" + "cheap,1.5\ndear,9.5\n" * 200 + "rare,100.5\n")
    dataset = prepared(f"csv:{path}", encode=Encode(categories="mean"))
    seen = {*load_examples(blobs, dataset).rows()[:, 0].tolist()}
    (column,) = dataset.schema.columns
    weights = {column.values[position]: weight for position, weight in zip(column.shown, column.weights, strict=True)}
    assert 1.5 < weights["cheap"] < 2.5 < 8.5 < weights["dear"] < 9.5
    assert seen <= {*weights.values(), column.unseen}
    assert column.unseen < weights.get("rare", 7.0) < 20


def test_each_removal_is_counted_by_reason(prepared: Prepared, tmp_path: Path) -> None:
    rows = ["1,a"] * 3 + ["2,b"] * 2 + [f"{value},{kind}" for value in range(10, 40) for kind in "ab"]
    rows += ["500,a", "3,c", "4,c"]
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "\n".join(rows))
    spec = Clean(duplicates="drop", range={"x": (0.0, 100.0)}, smallest_class=5)
    removed = dict(prepared(f"csv:{path}", clean=spec).removed)
    assert removed == {
        "outside 0 to 100 in 'x'": 1, "equal to an earlier row": 3, "of a class with fewer than 5 rows": 2,
    }  # fmt: skip
    with pytest.raises(InvalidDataset, match="names column 'z', which 'a' does not have"):
        prepared(f"csv:{path}", clean=Clean(range={"z": (0.0, 1.0)}))


def test_a_split_by_time_holds_out_the_latest(prepared: Prepared, blobs: DiskBlobs, table: Path) -> None:
    settings: dict[str, Any] = {"split": Splitting(by="time", column="time"), "columns": {"note": "drop"}}
    dataset = prepared(f"csv:{table}", **settings)
    times = {split: load_split(blobs, dataset, split)[0][:, 2] for split in ("train", "test")}  # type: ignore[arg-type]
    assert times["train"].max() < times["test"].min()
    assert 0.15 < dataset.splits["test"].rows / ROWS < 0.25


def test_a_split_by_group_leaks_no_group_and_no_name(prepared: Prepared, blobs: DiskBlobs, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{group},{group + row / 100},{'ab'[group % 2]}" for group in range(20) for row in range(10)]
    path.write_text("patient,x,y\n" + "\n".join(lines))
    dataset = prepared(f"csv:{path}", split=Splitting(by="group", column="patient"))
    assert dataset.schema.names == ("x",)
    groups = [set(np.floor(load_split(blobs, dataset, split)[0][:, 0])) for split in ("train", "test")]  # type: ignore[arg-type]
    assert not groups[0] & groups[1]
    assert len(groups[1]) == 4
    with pytest.raises(InvalidDataset, match="there is no column 'doctor'"):
        prepared(f"csv:{path}", split=Splitting(by="group", column="doctor"))
    with pytest.raises(InvalidDataset, match="'digits' has no columns to split by"):
        prepared("sklearn:digits", split=Splitting(by="group", column="x"))


def test_texts_that_have_no_word_in_common_are_nothing_to_learn_from(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,y\n" + "\n".join(f"only{row},{'ab'[row % 2]}" for row in range(20)))
    with pytest.raises(InvalidDataset, match="no word, or run of characters, is in two texts"):
        prepared(f"csv:{tmp_path / 'a.csv'}", columns={"text": "text"})
