"""Walks the outermost fields of a protobuf message in a file, without knowing its schema and without reading the
values.

Called by recognition. Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_MOST_NUMBER = 1000  # of a field; those of models are below thirty
_MOST_FIELDS = 200_000
_FIXED = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True, slots=True)
class Fields:
    """Number and wire type of the outermost fields; ``whole`` if the file is such fields to its very end.

    Of a file that ends inside a field, that field is the last one found.
    """

    found: frozenset[tuple[int, int]]
    whole: bool


def fields(path: Path) -> Fields:
    """Walk the file at ``path`` as far as it is fields of a message."""
    found: set[tuple[int, int]] = set()
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        for _ in range(_MOST_FIELDS):
            if at >= size:
                break
            key = _varint(file)
            if key is None or not 0 < key >> 3 < _MOST_NUMBER:
                break
            step = _step(file, key & 7)
            if step is None:
                break
            found.add((key >> 3, key & 7))
            at = file.tell() + step
            file.seek(min(at, size))
        return Fields(frozenset(found), at == size > 0)


def _step(file: BinaryIO, kind: int) -> int | None:
    """Return how far the value reaches beyond where the file is; read it if it is a varint."""
    if kind == VARINT:
        return None if _varint(file) is None else 0
    if kind == BYTES:
        return _varint(file)
    return _FIXED.get(kind)


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
