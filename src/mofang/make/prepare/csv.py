"""CSV files: a header, and one record a line. Read in chunks; messages name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NoReturn

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.columns import Place, is_number
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream


def read(where: str, delimiter: str = ",") -> Stream:
    """Open the file ``where``. Raises DatasetUnavailable, and InvalidDataset for what is wrong, with its line."""
    records = csv.reader(lines_of(where), strict=True, delimiter=delimiter)
    try:
        names = [name.strip() for name in next(records, [])]
    except csv.Error as error:
        fail(where, 1, str(error))
    _check_header(where, names)
    return Stream(where, tuple(names), _chunks(where, records, len(names), delimiter))


def columns_of(where: str, block: list[list[str]], width: int, place: Place) -> Chunk:
    """Turn records around; raise InvalidDataset for one that has not ``width`` fields."""
    if set(map(len, block)) != {width}:
        row = next(index for index, record in enumerate(block) if len(record) != width)
        raise InvalidDataset(f"{place(row)}: {len(block[row])} fields, but the header has {width}")
    return Chunk(list(zip(*block, strict=True)), place)


def _chunks(where: str, records: Iterator[list[str]], width: int, delimiter: str) -> Iterator[Chunk]:
    start = 0
    while True:
        try:
            block = [record for record in islice(records, CHUNK_ROWS) if record]
        except csv.Error as error:
            raise _damaged(where, delimiter) from error
        if not block:
            return
        yield columns_of(where, block, width, partial(_place, where, delimiter, start))
        start += len(block)


def _place(where: str, delimiter: str, start: int, row: int) -> str:
    """Say in which line a record begins, by looking again: it is asked once, when something is wrong."""
    line = next(islice(_numbered(where, delimiter), start + row + 1, None))
    return f"{where!r} line {line}"


def _damaged(where: str, delimiter: str) -> InvalidDataset:
    line = 1
    try:
        for line in _numbered(where, delimiter):  # noqa: B007
            pass
    except InvalidDataset as error:
        return error
    return InvalidDataset(f"{where!r} line {line}: the file changes while it is read")


def _numbered(where: str, delimiter: str) -> Iterator[int]:
    """Yield the line in which each record that is not blank begins, the header's first."""
    reader = csv.reader(lines_of(where), strict=True, delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidDataset(f"{where!r} line {line}: {error}") from error
        if record:
            yield line


def fail(where: str, line: int, message: str) -> NoReturn:
    """Raise InvalidDataset, naming the line."""
    raise InvalidDataset(f"{where!r} line {line}: {message}")


def lines_of(where: str) -> Iterator[str]:
    """Yield the lines of a text file; raise DatasetUnavailable, or InvalidDataset if it is no text."""
    try:
        with open(where, encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{where!r} is not UTF-8 text", hint="save it as UTF-8") from error
    except OSError as error:
        raise DatasetUnavailable(f"{where!r} cannot be read: {error.strerror}") from error


def _check_header(where: str, names: Sequence[str]) -> None:
    if len(names) < 2:
        fail(where, 1, f"the header must name at least two columns, got {list(names)}")
    if all(is_number(name) for name in names):
        fail(where, 1, "the first line must be a header, but holds numbers alone")
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            problem = "no name" if not name else f"the name {name!r} again"
            fail(where, 1, f"column {index + 1} of the header has {problem}")
