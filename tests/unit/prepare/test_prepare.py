"""From a source to a stored, split dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_split
from mofang.make.prepare.split import draw

Prepared = Callable[..., Dataset]


def test_digits_are_split_by_class_and_stored_small(prepared: Prepared, blobs: DiskBlobs) -> None:
    dataset = prepared("sklearn:digits")
    (features, classes), (tested, expected) = load_split(blobs, dataset, "train"), load_split(blobs, dataset, "test")
    assert (features.shape, tested.shape, features.dtype, classes.dtype) == (
        (1438, 64),
        (359, 64),
        np.float32,
        np.int64,
    )
    assert dataset.schema.dtype == "uint8"
    assert dataset.schema.labels == tuple("0123456789")
    assert np.abs(np.bincount(classes) / 1438 - np.bincount(expected) / 359).max() < 0.003
    assert not {row.tobytes() for row in features} & {row.tobytes() for row in tested}


def test_the_digest_is_over_content_split_and_schema(prepared: Prepared) -> None:
    digest = prepared("sklearn:digits").digest
    assert digest == prepared("sklearn:digits").digest
    assert len({digest, prepared("sklearn:digits", seed=1).digest, prepared("sklearn:digits", limit=500).digest}) == 3


@pytest.mark.parametrize(("name", "features", "labels"), [("iris", 4, 3), ("wine", 13, 3), ("breast_cancer", 30, 2)])
def test_bundled_tables_keep_their_names(prepared: Prepared, name: str, features: int, labels: int) -> None:
    schema = prepared(f"sklearn:{name}").schema
    assert (schema.features, len(schema.names), len(schema.labels), schema.dtype) == (
        features,
        features,
        labels,
        "float32",
    )


def test_a_limit_draws_from_every_class_and_is_counted(prepared: Prepared, blobs: DiskBlobs) -> None:
    dataset = prepared("sklearn:digits", limit=300)
    rows = sum(split.rows for split in dataset.splits.values())
    assert abs(rows - 300) <= 10
    assert dataset.removed == {"over the limit": 1797 - rows}
    assert len(np.unique(load_split(blobs, dataset, "test")[1])) == 10


def test_the_first_source_that_is_there_is_used(prepared: Prepared, tmp_path: Path) -> None:
    dataset = prepared(f"idx:{tmp_path}/none", f"csv:{tmp_path}/none.csv", f"npz:{tmp_path}/none.npz", "sklearn:iris")
    assert dataset.source == "sklearn:iris"


def test_without_any_source_all_reasons_are_told(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match=r"none.*No such file.*a\.csv.*No such file") as caught:
        prepared(f"idx:{tmp_path}/none", f"csv:{tmp_path}/a.csv")
    assert "sklearn:digits" in caught.value.hint


def test_a_damaged_source_is_not_passed_over(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(InvalidDataset, match=r"cannot be read as \.npz"):
        prepared(f"npz:{tmp_path / 'a.npz'}", "sklearn:digits")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0.01, 0.9), st.integers(0, 99))
def test_draws_take_the_share_of_every_class(values: list[int], share: float, seed: int) -> None:
    classes = np.array(values, dtype=np.int64)
    chosen = draw(classes, share, seed)
    assert (chosen == draw(classes, share, seed)).all()
    for kind in np.unique(classes):
        rows, taken = (classes == kind).sum(), chosen[classes == kind].sum()
        assert taken < rows
        assert rows == 1 or taken >= 1
        assert abs(taken - rows * share) <= 1
