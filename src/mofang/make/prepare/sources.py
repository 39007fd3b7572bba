"""Which module reads what: by the source's scheme, or by what a file holds.

A framework is imported only when a recipe asks for it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

from mofang.base.domain.errors import DatasetUnavailable, ExtraMissing, InvalidDataset
from mofang.base.domain.work import Progress
from mofang.make.prepare import arff, csv, http, idx, images, jsonl, npy, npz, passages, sklearn, text
from mofang.make.prepare.stream import Stream, gather
from mofang.make.prepare.table import Table
from mofang.make.recipe import Prepare
from mofang.make.recipe.data import REMOTE

_HEAD_BYTES = 4_096
_DELIMITERS = ",;\t|"


def read(source: str, spec: Prepare, scratch: Path, progress: Progress, *, internal: bool = False) -> Table:
    """Read ``source``, SCHEME:WHERE. Raises DatasetUnavailable, InvalidDataset, or ExtraMissing.

    ``internal``: what is fetched may lie on addresses that are not public.
    """
    scheme, _, where = source.partition(":")
    if scheme in REMOTE:
        path = _s3()(source, scratch, progress) if scheme == "s3" else http.fetch(source, scratch, progress, internal)
        scheme, where = "file", str(path)
    if spec.task == "generation":
        return passages.read("text" if scheme == "text" or passages.is_prose(Path(where)) else "jsonl", where,
                             spec.split.column)  # fmt: skip
    if scheme == "file":
        scheme = scheme_of(Path(where))
    match scheme:
        case "sklearn":
            return sklearn.read(where)
        case "idx":
            return idx.read(where)
        case "npz":
            return npz.read(where)
        case "images":
            return images.read(where, spec.size, spec.colour)
        case _:
            return gather(_stream(scheme, where), spec, scratch)


def _stream(scheme: str, where: str) -> Stream:
    if scheme == "parquet":
        return _parquet()(where)
    readers = {"jsonl": jsonl.read, "arff": arff.read, "npy": npy.read, "text": text.read}
    return readers[scheme](where) if scheme in readers else csv.read(where, _delimiter(Path(where)))


def _s3() -> Callable[[str, Path, Progress], Path]:
    try:
        from mofang.make.prepare import s3
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("reading from S3", "obstore", "s3") from error
    return s3.fetch


def _parquet() -> Callable[[str], Stream]:
    try:
        from mofang.make.prepare import pyarrow
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("reading Parquet", "pyarrow", "parquet") from error
    return pyarrow.read


def scheme_of(path: Path) -> str:
    """Say what is at ``path``, by content first and by its name second. Raises DatasetUnavailable or InvalidDataset."""
    if path.is_dir():
        return _scheme_of_folder(path)
    head = _head(path)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK"):
        return "npz" if _holds_arrays(path) else "images"
    start = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if start.startswith(("@", "%")) or path.suffix == ".arff":
        return "arff"
    return "jsonl" if start.startswith("{") else "csv"


def _scheme_of_folder(path: Path) -> str:
    if any(path.glob("*-images-idx3-ubyte*")):
        return "idx"
    if any(path.glob("*/*.txt")):
        return "text"
    if any(file.suffix.lower() in (".png", ".jpg", ".jpeg") for file in path.rglob("*.*")):
        return "images"
    raise InvalidDataset(
        f"nothing in {str(path)!r} is known as data",
        hint="a folder holds IDX files, or a folder for each class with pictures or .txt files in it",
    )


def _holds_arrays(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile as error:
        raise InvalidDataset(f"{str(path)!r} is damaged: {error}") from error


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise DatasetUnavailable(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _delimiter(path: Path) -> str:
    """Return the delimiter that the first line has most of: a comma, a semicolon, a tabulator or a bar."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            line = file.readline(1 << 20)
    except OSError:
        return ","  # whoever reads it will tell
    return max(_DELIMITERS, key=line.count)
