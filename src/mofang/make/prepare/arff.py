"""ARFF files, the format of Weka: attributes with their kinds, then records like those of a CSV file.

The format: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/ (sparse records are refused).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from itertools import islice

from mofang.make.prepare.columns import Kind
from mofang.make.prepare.csv import columns_of, fail, lines_of
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream

_ATTRIBUTE = re.compile(
    r"@attribute\s+(?:'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\"|(?P<plain>\S+))\s+(?P<kind>.+)", re.I
)
_VALUE = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,]*?))\s*,""")
_ESCAPED = re.compile(r"\\(.)")
_KINDS: dict[str, Kind] = {"numeric": "number", "real": "number", "integer": "number", "date": "date", "string": "text"}


def read(where: str) -> Stream:
    """Open the file ``where``. Raises DatasetUnavailable, and InvalidDataset for what is wrong, with its line."""
    lines = enumerate(lines_of(where), 1)
    kinds: dict[str, Kind | None] = {}
    for number, text in lines:
        line = text.strip()
        if not line or line.startswith("%") or line.lower().startswith("@relation"):
            continue
        if line.lower().startswith("@data"):
            break
        found = _ATTRIBUTE.fullmatch(line)
        if found is None:
            fail(where, number, f"expected @attribute NAME KIND or @data, got {line[:40]!r}")
        name = next(found[part] for part in ("single", "double", "plain") if found[part] is not None)
        kind = found["kind"].split()[0].lower()
        if not kind.startswith("{") and kind not in _KINDS:
            fail(where, number, f"attribute {name!r} is of the unknown kind {kind[:40]!r}")
        kinds[name] = "category" if kind.startswith("{") else _KINDS[kind]
    if len(kinds) < 2:
        fail(where, 1, f"an ARFF file names at least two attributes, got {list(kinds)}")
    return Stream(where, tuple(kinds), _chunks(where, _records(where, lines), len(kinds)), kinds)


def _chunks(where: str, records: Iterator[tuple[int, list[str]]], width: int) -> Iterator[Chunk]:
    while block := list(islice(records, CHUNK_ROWS)):
        numbers = [number for number, _ in block]
        yield columns_of(where, [record for _, record in block], width, partial(_place, where, numbers))


def _place(where: str, numbers: list[int], row: int) -> str:
    return f"{where!r} line {numbers[row]}"


def _records(where: str, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, text in lines:
        line = text.strip()
        if not line or line.startswith("%"):
            continue
        if line.startswith("{"):
            fail(where, number, "sparse records are not read; convert them with Weka's SparseToNonSparse")
        yield number, [_value(found) for found in _VALUE.finditer(line + ",")]


def _value(found: re.Match[str]) -> str:
    text = next(part for part in found.groups() if part is not None)
    return _ESCAPED.sub(r"\1", text)
