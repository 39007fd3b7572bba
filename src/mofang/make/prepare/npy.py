"""A NumPy .npy file: a matrix whose last column is the target, or records with named fields."""

from __future__ import annotations

from collections.abc import Iterator
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream

DAMAGED = (ValueError, EOFError, TypeError, OverflowError, MemoryError, SyntaxError, TokenError, RecursionError)
"""What numpy raises for a header that it cannot read: it is written as a literal of Python."""


def read(where: str) -> Stream:
    """Open the file ``where`` without reading it whole. Columns of a matrix are called "0", "1", and so on."""
    try:
        array: NDArray[Any] = np.load(where, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise InvalidDataset(f"{where!r} cannot be read as .npy: {error}") from error
    except OSError as error:
        raise DatasetUnavailable(f"{where!r} cannot be read: {error.strerror}") from error
    if array.dtype.names and array.ndim == 1:
        names = tuple(array.dtype.names)
    elif array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biufSU":
        names = tuple(map(str, range(array.shape[1])))
    else:
        raise InvalidDataset(f"{where!r} must be a matrix or records, got {array.dtype} {list(array.shape)}")
    return Stream(where, names, _chunks(where, array, names))


def _chunks(where: str, array: NDArray[Any], names: tuple[str, ...]) -> Iterator[Chunk]:
    for start in range(0, len(array), CHUNK_ROWS):
        part = array[start : start + CHUNK_ROWS]
        columns = [part[name] for name in names] if array.dtype.names else list(part.T)
        yield Chunk(columns, lambda row, at=start: f"{where!r} row {at + row}")  # type: ignore[misc]
