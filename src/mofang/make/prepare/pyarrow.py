"""Parquet files, read in batches of rows. Needs the extra `parquet`; imported only when a recipe names such a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.make.prepare.columns import Kind, Values
from mofang.make.prepare.stream import CHUNK_ROWS, Chunk, Stream


def read(where: str) -> Stream:
    """Open the file ``where``; raise DatasetUnavailable or InvalidDataset."""
    try:
        file = pq.ParquetFile(where)
    except OSError as error:
        raise DatasetUnavailable(f"{where!r} cannot be read: {error.strerror or error}") from error
    except pa.ArrowInvalid as error:
        raise InvalidDataset(f"{where!r} is no Parquet file, or is damaged: {error}") from error
    kinds: dict[str, Kind | None] = {}
    for field in file.schema_arrow:
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            raise InvalidDataset(f"column {field.name!r} of {where!r} is {field.type}, which is no value")
        if _is_number(field.type):
            kinds[field.name] = "number"
        elif pa.types.is_temporal(field.type):
            kinds[field.name] = "date"
    names = tuple(file.schema_arrow.names)
    if len(names) < 2:
        raise InvalidDataset(f"{where!r} must have at least two columns, got {list(names)}")
    return Stream(where, names, _chunks(where, file), kinds)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _chunks(where: str, file: Any) -> Iterator[Chunk]:
    start = 0
    try:
        for batch in file.iter_batches(batch_size=CHUNK_ROWS):
            yield Chunk([_values(column) for column in batch.columns], partial(_place, where, start))
            start += batch.num_rows
    except (OSError, pa.ArrowInvalid) as error:
        raise InvalidDataset(f"{where!r} is damaged after row {start}: {error}") from error


def _place(where: str, start: int, row: int) -> str:
    return f"{where!r} row {start + row}"


def _values(column: Any) -> Values:
    kind = column.type
    if pa.types.is_temporal(kind):
        times = column.cast(pa.timestamp("s"), safe=False).to_numpy(zero_copy_only=False)
        return ["" if np.isnat(time) else str(time) for time in times]
    if _is_number(kind):
        values = column.cast(pa.float64(), safe=False) if pa.types.is_decimal(kind) else column
        found: Values = values.to_numpy(zero_copy_only=False)
        return found
    return ["" if value is None else str(value) for value in column.to_pylist()]
