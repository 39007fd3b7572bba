"""Every format of the same table is the same data, and every broken file is told."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mofang.base.domain.errors import InvalidDataset
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.dataset import Dataset, load_examples
from mofang.make.prepare.sources import scheme_of

Prepared = Callable[..., Dataset]
COLUMNS = {
    "width": [row / 4 if row % 9 else None for row in range(60)],
    "colour": [("red", "dark green", "it's blue")[row % 3] for row in range(60)],
    "made": [f"2026-03-{row % 30 + 1:02}" for row in range(60)],
    "kind": ["rose" if row % 2 else "tulip" for row in range(60)],
}
ROWS = list(zip(*COLUMNS.values(), strict=True))


def _csv(path: Path, delimiter: str = ",") -> None:
    lines = [delimiter.join("" if value is None else str(value) for value in row) for row in ROWS]
    path.write_text("\n".join([delimiter.join(COLUMNS), *lines]))


def _jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in ROWS) + "\n\n")


def _arff(path: Path) -> None:
    head = """% a comment
@RELATION flowers
@attribute width NUMERIC
@attribute 'colour' {red, 'dark green', "it's blue"}
@attribute made date
@attribute kind {rose,tulip}
@DATA
"""
    quoted = {"it's blue": '"it\'s blue"', "dark green": "'dark green'"}
    lines = (f"{'?' if w is None else w}, {quoted.get(c, c)}, {m}, {k}" for w, c, m, k in ROWS)
    path.write_text(head + "\n".join(lines))


def _parquet(path: Path) -> None:
    made = pa.array(np.array(COLUMNS["made"], "datetime64[D]"))
    pq.write_table(pa.table({**COLUMNS, "made": made}), path, row_group_size=25)


def _npy(path: Path) -> None:
    fields = [("width", "f8"), ("colour", "U12"), ("made", "U10"), ("kind", "U5")]
    np.save(path, np.array([(np.nan if w is None else w, c, m, k) for w, c, m, k in ROWS], fields))


@pytest.mark.parametrize(
    ("scheme", "write"),
    [("csv", lambda path: _csv(path, ";")), ("jsonl", _jsonl), ("arff", _arff), ("parquet", _parquet), ("npy", _npy)],
)
def test_a_table_is_the_same_in_every_format(
    prepared: Prepared, blobs: DiskBlobs, tmp_path: Path, scheme: str, write: Callable[[Path], None]
) -> None:
    _csv(tmp_path / "flowers.csv")
    suffix = ".npy" if scheme == "npy" else ".data"
    write(tmp_path / f"flowers{suffix}")
    assert scheme_of(tmp_path / f"flowers{suffix}") == scheme
    expected, found = prepared(f"csv:{tmp_path}/flowers.csv"), prepared(f"file:{tmp_path}/flowers{suffix}")
    assert found.digest == expected.digest
    assert found.removed == expected.removed == {"missing or infinite values": 7}
    assert prepared(f"{scheme}:{tmp_path}/flowers{suffix}").digest == expected.digest
    assert load_examples(blobs, found).rows().shape[1] == 1 + 3 + 5


def test_folders_and_archives_are_known_by_what_they_hold(tmp_path: Path) -> None:
    for name, path in (("text", "a/x/1.txt"), ("images", "b/x/1.png"), ("idx", "c/train-images-idx3-ubyte.gz")):
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
        assert scheme_of(tmp_path / path.split("/")[0]) == name
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    assert scheme_of(tmp_path / "x.npz") == "npz"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidDataset, match=r"nothing in .*empty' is known as data"):
        scheme_of(tmp_path / "empty")


def test_paragraphs_are_rows_and_know_their_document(prepared: Prepared, tmp_path: Path) -> None:
    for kind in ("news", "fiction"):
        for document in range(5):
            path = tmp_path / "brown" / kind / f"{document}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n\n".join(f"the {kind} of\n paragraph {i} in document {document}" for i in range(6)))
    dataset = prepared(f"text:{tmp_path}/brown")
    assert (dataset.schema.names, dataset.schema.labels) == (("text",), ("fiction", "news"))
    assert sum(split.rows for split in dataset.splits.values()) == 60


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1, "b": 2}\n{"a": 1,\n', "line 2: no JSON"),
        ("a.jsonl", '{"a": 1, "b": 2}\n[1]\n', "line 2: a record must be a JSON object, got '[1]'"),
        ("a.jsonl", '{"a": 1, "b": [2]}\n', "line 1: key 'b' holds an object or a list of other things than texts"),
        ("a.jsonl", '{"a": 1}\n', "line 1: records must have two keys or more"),
        ("a.arff", "@relation a\n@attribute a numeric\n@attribute b\n", "line 3: expected @attribute NAME KIND"),
        ("a.arff", "@attribute a thing\n", "line 1: attribute 'a' is of the unknown kind 'thing'"),
        ("a.arff", "@attribute a real\n@attribute b {x,y}\n@data\n{0 1}\n", "line 4: sparse records are not read"),
        ("a.arff", "@attribute a real\n@attribute b {x,y}\n@data\n1,x,3\n", "line 4: 3 fields, but the header has 2"),
        ("a.parquet", "PAR1 and then nothing", "is no Parquet file, or is damaged"),
        ("a.npy", "\x93NUMPY", "cannot be read as .npy"),
    ],
)
def test_broken_files_are_told_with_their_place(
    prepared: Prepared, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(InvalidDataset) as caught:
        prepared(f"file:{tmp_path / name}")
    assert message in caught.value.message
