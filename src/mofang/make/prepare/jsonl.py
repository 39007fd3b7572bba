"""JSON lines: one object a line, its keys are the columns; a list of texts is written ``a|b``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import msgspec
import numpy as np

from mofang.make.prepare.columns import Values
from mofang.make.prepare.csv import fail, lines_of
from mofang.make.prepare.marks import SEPARATOR
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream

Row = tuple[int, dict[str, Any]]


def read(where: str) -> Stream:
    """Open the file ``where``; the keys of the first records name the columns, in the order they come.

    Raises DatasetUnavailable, and InvalidDataset for what is wrong, with its line.
    """
    rows = rows_of(where)
    first = list(islice(rows, CHUNK_ROWS))
    names = tuple(dict.fromkeys(key for _, row in first for key in row))
    if len(names) < 2:
        fail(where, 1, f"records must have two keys or more, got {list(names)}")
    return Stream(where, names, _chunks(where, names, chain(first, rows)))


def rows_of(where: str) -> Iterator[Row]:
    """Yield the objects in the file ``where`` with their lines. Raises as :func:`read`."""
    decode = msgspec.json.Decoder().decode
    for number, line in enumerate(lines_of(where), 1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except msgspec.DecodeError as error:
            fail(where, number, f"no JSON: {error}")
        if not isinstance(row, dict):
            fail(where, number, f"a record must be a JSON object, got {line.strip()[:40]!r}")
        yield number, row


def _chunks(where: str, names: tuple[str, ...], rows: Iterator[Row]) -> Iterator[Chunk]:
    known = set(names)
    while block := list(islice(rows, CHUNK_ROWS)):
        for number, row in block:
            strange = [key for key, value in row.items() if key not in known or not _is_value(value)]
            if strange:
                problem = (
                    "is new here"
                    if strange[0] not in known
                    else "holds an object or a list of other things than texts, which is no value"
                )
                fail(where, number, f"key {strange[0]!r} {problem}")
        numbers = [number for number, _ in block]
        columns = [_column([row.get(name) for _, row in block]) for name in names]
        yield Chunk(columns, lambda row, lines=numbers: f"{where!r} line {lines[row]}")  # type: ignore[misc]


def _column(values: list[Any]) -> Values:
    if all(value is None or type(value) in (int, float) for value in values):
        return np.array([np.nan if value is None else value for value in values], np.float64)
    return ["" if value is None else _written(value) for value in values]


def _is_value(value: Any) -> bool:
    return not isinstance(value, dict) and (not isinstance(value, list) or all(type(each) is str for each in value))


def _written(value: Any) -> str:
    return SEPARATOR.join(value) if isinstance(value, list) else str(value)
