"""CSV files: what is read, what is dropped, and which line is to blame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_split

Prepared = Callable[..., Dataset]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "flowers.csv"


def test_rows_labels_and_counts(path: Path, prepared: Prepared, blobs: DiskBlobs) -> None:
    rows = [f'{index}.5,"{kind}",{index * 2}' for index in range(20) for kind in ("rose, red", "tulip")]
    rows += ["NA,tulip,1", "1,tulip,", "1e39,tulip,1", "-inf,tulip,2", "1,,2", "", "3,daisy,4"]
    path.write_text("\ufeffwidth,kind,height\r\n" + "\r\n".join(rows) + "\r\n", "utf-8")
    dataset = prepared(f"csv:{path}", target="kind", test_fraction=0.25)
    assert (dataset.name, dataset.schema.labels, dataset.schema.names) == (
        "flowers", ("rose, red", "tulip"), ("width", "height"),
    )  # fmt: skip
    assert dict(dataset.removed) == {"no target": 1, "missing or infinite values": 4, "only row of its class": 1}
    features, classes = load_split(blobs, dataset, "test")
    assert np.bincount(classes).tolist() == [5, 5]
    assert (features[:, 1] == (features[:, 0] - 0.5) * 2).all()


def test_integer_classes_keep_their_order(path: Path, prepared: Prepared) -> None:
    path.write_text("x,y\n" + "1,10\n2,9\n-3,-1\n" * 4)
    assert prepared(f"csv:{path}").schema.labels == ("-1", "9", "10")


@pytest.mark.parametrize(
    ("values", "task", "found"),
    [
        (("1.5", "2"), "auto", "regression"),
        (("1", "2"), "auto", "classification"),
        (("1.0", "2.0"), "auto", "classification"),  # how programs write whole numbers where some are missing
        (("1", "2"), "regression", "regression"),
        (("1.5", "2"), "classification", "classification"),
        (("a", "2"), "auto", "classification"),
    ],
)
def test_the_task_follows_from_the_target_or_the_recipe(
    path: Path, prepared: Prepared, blobs: DiskBlobs, values: tuple[str, str], task: str, found: str
) -> None:
    path.write_text("x,y\n" + "".join(f"{index},{value}\n" for index in range(20) for value in values))
    dataset = prepared(f"csv:{path}", task=task)
    assert dataset.task == found
    assert len(dataset.schema.labels) == (0 if found == "regression" else 2)
    _, target = load_split(blobs, dataset, "test")
    assert target.dtype == (np.float64 if found == "regression" else np.int64)


def test_numbers_without_a_target_are_dropped_and_both_parts_span_them_all(
    path: Path, prepared: Prepared, blobs: DiskBlobs
) -> None:
    path.write_text("x,y\n" + "".join(f"{index},{index}.25\n" for index in range(400)) + "1,\n2,inf\nNA,3.5\n")
    dataset = prepared(f"csv:{path}", test_fraction=0.25)
    assert dict(dataset.removed) == {"no target": 1, "missing or infinite values": 2}
    features, target = load_split(blobs, dataset, "test")
    assert (features[:, 0] + 0.25 == target).all()
    assert np.histogram(target, 10, (0, 400))[0].tolist() == [10] * 10


def test_a_regression_on_texts_is_refused(path: Path, prepared: Prepared) -> None:
    path.write_text("x,y\n1,cat\n2,dog\n")
    with pytest.raises(InvalidDataset, match="holds texts such as 'cat'; regression needs numbers"):
        prepared(f"csv:{path}", task="regression")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x\n2,y,z\n", "line 3: 3 fields, but the header has 2"),
        ('a,"b\nc",d\n' + "1,2,x\n" * 30 + "zero,2,x\n", "line 33: column 'a' must be a number, got 'zero'"),
        ("a,b\n" + "1,x\n" * 30 + "1_000,x\n", "line 32: column 'a' must be a number, got '1_000'"),
        ("a,b\n" + "2026-01-31,x\n" * 30 + "2026-02-31,x\n", "line 32: column 'a' must be a date such as"),
        ('a,b\n1,"x\n', "line 2: unexpected end of data"),
        ('a,b\n1,"x"y\n', "line 2: ',' expected after '\"'"),
        ("1,2\n3,4\n", "line 1: the first line must be a header, but holds numbers alone"),
        ("a,a\n1,2\n", "line 1: column 2 of the header has the name 'a' again"),
        ("a,,b\n1,2,3\n", "line 1: column 2 of the header has no name"),
        ("", "line 1: the header must name at least two columns"),
        ("a,b\n" + "1" * 200_000 + ",x\n", "line 2: field larger than field limit"),
    ],
)
def test_errors_name_the_line(path: Path, prepared: Prepared, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidDataset) as caught:
        prepared(f"csv:{path}")
    assert message in caught.value.message


def test_an_unknown_target_is_told_with_the_columns(path: Path, prepared: Prepared) -> None:
    path.write_text("width,kind\n1,a\n")
    with pytest.raises(InvalidDataset, match="there is no column 'sort'; columns are 'width', 'kind'"):
        prepared(f"csv:{path}", target="sort")


def test_other_encodings_are_refused(path: Path, prepared: Prepared) -> None:
    path.write_bytes("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(InvalidDataset, match="not UTF-8"):
        prepared(f"csv:{path}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x\n2,x\n", "1 classes with two usable rows"),
        ("a,b\n1,x\n2,y\n", "0 classes with two usable rows"),
        ("a,price\n" + "".join(f"1,{n}\n" for n in range(2000)), "2000 different classes"),
        ("a,price\n" + "1,9.5\n" * 30, "30 usable rows, all of the same target"),
    ],
)
def test_tables_that_cannot_be_learnt_are_refused(path: Path, prepared: Prepared, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidDataset, match=message):
        prepared(f"csv:{path}")
