"""Data in: read the first source that is there, clean it, split it, store it.

Called by the pipeline. Blobs and a scratch folder are handed in; the Dataset that comes out is recorded by whoever
asked for it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import DatasetUnavailable, InvalidDataset
from mofang.base.domain.names import now_us
from mofang.base.domain.work import Progress
from mofang.base.storage.blobs import Blobs
from mofang.make.prepare.clean import CleanRows, Mask, clean, spans, task_of
from mofang.make.prepare.dataset import Dataset, Schema, Split, dataset_digest
from mofang.make.prepare.encode import encode, fit
from mofang.make.prepare.normalise import measure
from mofang.make.prepare.sources import read
from mofang.make.prepare.split import choose, classes_in, draw, strata
from mofang.make.prepare.table import Table
from mofang.make.recipe import Prepare

_MOST_NOTES = 20


def prepare(
    spec: Prepare, blobs: Blobs, progress: Progress, scratch: Path | None = None, *, internal: bool = False
) -> Dataset:
    """Read, clean, split and store the data ``spec`` names; large tables pass through the folder ``scratch``.

    ``internal``: data may be fetched from addresses that are not public.

    Raises DatasetUnavailable if none of its sources is there, and InvalidDataset if the one that is cannot be used.
    The same data, seed and fractions give the same digest. Nothing is recorded: DatasetStore.record does that.
    """
    progress.report("prepare", 0.0, f"looking for {' or '.join(spec.sources)}")
    with TemporaryDirectory(dir=scratch) as folder:
        source, table = _read_first(spec, Path(folder), progress, internal)
        return _prepare(spec, source, table, blobs, progress)


def _prepare(spec: Prepare, source: str, table: Table, blobs: Blobs, progress: Progress) -> Dataset:
    task = task_of(table) if spec.task == "auto" else spec.task
    if (task == "multilabel") != (table.target.ndim == 2):
        raise InvalidDataset(f"{table.name!r} has one class a row, and no labels", hint="several come in tables")
    rows = clean(table, task, spec.clean)
    for note in rows.notes:
        progress.report("prepare", 0.5, f"left out: {note}")
    held_out, over = _split(table, rows, spec)
    removed = {**rows.removed, **({"over the limit": int(over.sum())} if over.any() else {})}
    for reason, count in removed.items():
        progress.report("prepare", 0.5, f"left out {count:,} rows: {reason}", dropped=count)
    masks = {"train": rows.keep & ~held_out & ~over, "test": rows.keep & held_out & ~over}
    schema = _schema(spec, table, rows, masks["train"], blobs)
    splits = {}
    for name, mask in masks.items():
        splits[name] = _store(table, rows.target, mask, blobs)
        progress.report("prepare", 0.7 if name == "train" else 1.0, f"{name}: {splits[name].rows:,} rows")
    splits["train"] = _apart(spec, table, masks["train"], splits["train"], blobs)
    return Dataset(
        digest=dataset_digest(splits, schema),
        name=table.name,
        source=source,
        task=task,
        splits=splits,
        schema=schema,
        created_at=now_us(),
        removed=removed,
    )


def _read_first(spec: Prepare, scratch: Path, progress: Progress, internal: bool) -> tuple[str, Table]:
    reasons = []
    for source in spec.sources:
        try:
            table = read(source, spec, scratch, progress, internal=internal)
        except DatasetUnavailable as error:
            reasons.append(f"{source.partition('?')[0]}: {error.message}")
            continue
        progress.report("prepare", 0.4, f"read {len(table.target):,} rows from {source}", rows=len(table.target))
        for note in table.notes[:_MOST_NOTES]:
            progress.report("prepare", 0.45, f"left out: {note}")
        return source.partition("?")[0], table  # a query may hold a key
    raise DatasetUnavailable(
        f"no source of data can be read: {'; '.join(reasons)}",
        hint="install or copy the data, or add a source that is always there, e.g. 'sklearn:digits'",
    )


def _split(table: Table, rows: CleanRows, spec: Prepare) -> tuple[Mask, Mask]:
    """Return masks over the table of the held-out rows and of those over the limit; every class is trained on."""
    kept = np.flatnonzero(rows.keep)
    target = rows.target[kept]
    layers = strata(target)
    held_out = _held_out(table, kept, layers, spec)
    over = np.zeros(len(kept), dtype=np.bool_)
    if 0 < spec.limit < len(kept):
        for part in (held_out, ~held_out):
            over[part] = draw(layers[part], 1 - spec.limit / len(kept), spec.seed + 1)
    lacking = sorted(set(range(len(rows.labels))) - set(classes_in(target[~held_out]).tolist()))
    if lacking or held_out.all() or not held_out.any():
        problem = f"class {rows.labels[lacking[0]]!r} has no training row" if lacking else "no row is left on one side"
        own = "the data's own split" if table.test_rows else "the split"
        raise InvalidDataset(f"{own} cannot be used: {problem}")
    masks = np.zeros((2, len(rows.keep)), np.bool_)
    masks[:, kept] = held_out, over
    return masks[0], masks[1]


def _held_out(table: Table, kept: NDArray[np.intp], layers: NDArray[np.int64], spec: Prepare) -> Mask:
    """Return a mask over the ``kept`` rows."""
    if table.test_rows:
        return np.asarray(kept >= len(table.target) - table.test_rows)
    if spec.split.by == "rows":
        return draw(layers, spec.test_fraction, spec.seed)
    if table.apart is None:
        raise InvalidDataset(f"{table.name!r} has no columns to split by", hint="leave [prepare.split] out")
    apart = table.apart[kept]
    if np.isnan(apart).any():
        raise InvalidDataset(
            f"{int(np.isnan(apart).sum()):,} rows have no {spec.split.column!r}, by which they are to be split"
        )
    return choose(spec.split.by, apart, layers, spec.test_fraction, spec.seed)


def _schema(spec: Prepare, table: Table, rows: CleanRows, training: Mask, blobs: Blobs) -> Schema:
    shape = table.features.shape[1:]
    columns = table.columns
    if spec.task == "generation":  # a language model brings its own tokens
        schema = Schema(len(columns), "float32", (), table.names, columns=columns)
        return _with_texts(schema, table, blobs)
    if columns:
        columns = fit(columns, spec.encode, table.features, training, rows.target, table.texts)
    width = sum(column.width for column in columns) if columns else math.prod(shape)
    if not width:
        raise InvalidDataset(
            "there is nothing to learn from: no word, or run of characters, is in two texts",
            hint='[prepare.encode] text = "characters" finds more in common; or add columns',
        )
    is_image = len(shape) > 1
    channels = width if not is_image else shape[2] if len(shape) == 3 else 1

    def chunks() -> Iterator[NDArray[Any]]:
        for span in spans(len(training)):
            chosen = np.asarray(table.features[span])[training[span]]
            if len(chosen):
                seen = encode(columns, chosen, table.texts) if columns else chosen
                yield seen.reshape(len(seen), -1, channels)

    fill = not is_image and (spec.clean.missing == "fill" or (bool(columns) and spec.clean.missing == "drop"))
    schema = Schema(
        features=width,
        dtype=str(table.features.dtype) if table.features.dtype == np.uint8 else "float32",
        labels=rows.labels,
        names=table.names,
        shape=shape if is_image else (),
        encoded=table.encoded,
        scaling=measure(spec.normalise, chunks, channels, fill=fill, whole=is_image),
        columns=columns,
    )
    return _with_texts(schema, table, blobs)


def _with_texts(schema: Schema, table: Table, blobs: Blobs) -> Schema:
    if not table.texts:
        return schema
    return replace(schema, texts=blobs.put([msgspec.msgpack.encode(table.texts)]).sha256)


def _store(table: Table, target: NDArray[Any], mask: Mask, blobs: Blobs) -> Split:
    dtype = np.dtype(np.uint8 if table.features.dtype == np.uint8 else np.float32)
    features = blobs.put(_npy(table.features, mask, dtype)).sha256
    return Split(int(mask.sum()), features, blobs.put(_npy(target, mask, target.dtype)).sha256)


def _apart(spec: Prepare, table: Table, mask: Mask, split: Split, blobs: Blobs) -> Split:
    """Return ``split`` with what its rows are held out by, so that training can keep rows aside by the same rule."""
    if spec.split.by == "rows" or table.apart is None or np.isnan(table.apart[mask]).any():
        return split
    return replace(split, by=spec.split.by, apart=blobs.put(_npy(table.apart, mask, table.apart.dtype)).sha256)


def _npy(array: NDArray[Any], mask: Mask, dtype: np.dtype[Any]) -> Iterator[bytes]:
    """Yield the rows of ``array`` that ``mask`` chooses as a .npy file (format 1.0), chunk by chunk."""
    header = io.BytesIO()
    shape = (int(mask.sum()), *array.shape[1:])
    np.lib.format.write_array_header_1_0(
        header, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )
    yield header.getvalue()
    for span in spans(len(mask)):
        yield np.ascontiguousarray(np.asarray(array[span])[mask[span]], dtype).tobytes()
