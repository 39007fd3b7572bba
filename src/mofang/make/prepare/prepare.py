"""Data in: read the first source that is there, clean it, split it, store it.

Called by the pipeline. Blobs are handed in; the Dataset that comes out is recorded by whoever asked for it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.base.domain.names import now_us
from mofang.base.domain.work import Progress
from mofang.base.storage.blobs import Blobs
from mofang.make.prepare import csv, idx, images, npz, sklearn
from mofang.make.prepare.clean import CleanRows, clean, task_of
from mofang.make.prepare.dataset import Dataset, Schema, Split, dataset_digest
from mofang.make.prepare.normalise import measure
from mofang.make.prepare.split import draw, strata
from mofang.make.prepare.table import Table
from mofang.make.recipe import Prepare

_CHUNK_BYTES = 1 << 20
_MOST_NOTES = 20


def prepare(spec: Prepare, blobs: Blobs, progress: Progress) -> Dataset:
    """Read, clean, split and store the data ``spec`` names.

    Raises DatasetUnavailable if none of its sources is there, and InvalidDataset if the one that is cannot be used.
    The same data, seed and fractions give the same digest. Nothing is recorded: DatasetStore.record does that.
    """
    progress.report("prepare", 0.0, f"looking for {' or '.join(spec.sources)}")
    source, table = _read_first(spec)
    progress.report("prepare", 0.4, f"read {len(table.target)} rows from {source}", rows=len(table.target))
    for note in table.notes[:_MOST_NOTES]:
        progress.report("prepare", 0.45, f"left out: {note}")
    task = task_of(table) if spec.task == "auto" else spec.task
    rows = clean(table, task)
    for reason, count in rows.removed.items():
        progress.report("prepare", 0.5, f"dropped {count} rows: {reason}", dropped=count)
    held_out, removed = _split(rows, spec)
    splits = {}
    for name, mask in (("train", ~held_out & ~removed), ("test", held_out & ~removed)):
        splits[name] = _store(rows.features[mask], rows.target[mask], blobs)
        progress.report("prepare", 0.7 if name == "train" else 1.0, f"{name}: {splits[name].rows} rows")
    schema = _schema(spec, table, rows, ~held_out & ~removed)
    left_out = {"over the limit": int(removed.sum())} if removed.any() else {}
    return Dataset(
        digest=dataset_digest(splits, schema),
        name=table.name,
        source=source,
        task=task,
        splits=splits,
        schema=schema,
        created_at=now_us(),
        removed={**rows.removed, **left_out},
    )


def _schema(spec: Prepare, table: Table, rows: CleanRows, training: NDArray[np.bool_]) -> Schema:
    shape = rows.features.shape[1:]
    return Schema(
        features=math.prod(shape),
        dtype=str(rows.features.dtype),
        labels=rows.labels,
        names=table.names,
        shape=shape if len(shape) > 1 else (),
        encoded=table.encoded,
        scaling=measure(spec.normalise, rows.features[training]),
    )


def _read_first(spec: Prepare) -> tuple[str, Table]:
    reasons = []
    for source in spec.sources:
        scheme, _, where = source.partition(":")
        try:
            match scheme:
                case "sklearn":
                    return source, sklearn.read(where)
                case "idx":
                    return source, idx.read(where)
                case "npz":
                    return source, npz.read(where)
                case "images":
                    return source, images.read(where, spec.size, spec.colour)
                case _:
                    return source, csv.read(where, spec.target)
        except DatasetUnavailable as error:
            reasons.append(f"{source}: {error.message}")
    raise DatasetUnavailable(
        f"no source of data can be read: {'; '.join(reasons)}",
        hint="install or copy the data, or add a source that is always there, e.g. 'sklearn:digits'",
    )


def _split(rows: CleanRows, spec: Prepare) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the held-out rows and of those over the limit; every class is in the training rows."""
    total, layers = len(rows.target), strata(rows.target)
    if rows.test_rows:
        held_out = np.arange(total) >= total - rows.test_rows
    else:
        held_out = draw(layers, spec.test_fraction, spec.seed)
    removed = np.zeros(total, dtype=np.bool_)
    if 0 < spec.limit < total:
        for part in (held_out, ~held_out):
            removed[part] = draw(layers[part], 1 - spec.limit / total, spec.seed + 1)
    lacking = sorted(set(range(len(rows.labels))) - set(rows.target[~held_out].tolist()))
    if lacking or held_out.all() or not held_out.any():
        problem = f"class {rows.labels[lacking[0]]!r} has no training row" if lacking else "no row is left on one side"
        raise InvalidDataset(f"the data's own split cannot be used: {problem}")
    return held_out, removed


def _store(features: NDArray[Any], target: NDArray[Any], blobs: Blobs) -> Split:
    return Split(len(target), blobs.put(_npy(features)).sha256, blobs.put(_npy(target)).sha256)


def _npy(array: NDArray[Any]) -> Iterator[bytes]:
    """Yield ``array`` as a .npy file (format 1.0) in chunks, without a second copy in memory."""
    header = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    yield header.getvalue()
    data = array.reshape(-1).view(np.uint8)
    for start in range(0, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES].tobytes()
