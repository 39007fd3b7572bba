"""From a Table to rows that can be trained on: what is unusable is left out and counted; classes become indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare.table import Table
from mofang.make.recipe import Clean, Task

MAX_CLASSES = 1_000
CHUNK_ROWS = 65_536
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """Which rows of the table can be used, and their target.

    Both have an entry for every row of the table. ``target`` holds class indices, and ``labels`` the classes' names; or
    numbers (float64), and no labels; or 0 and 1 for each label, [rows, labels]. What it holds of rows that are not kept
    means nothing. ``notes`` say what else is left out.
    """

    keep: Mask
    target: NDArray[np.int64] | NDArray[np.float64]
    labels: tuple[str, ...]
    removed: dict[str, int]
    notes: tuple[str, ...] = ()


def task_of(table: Table) -> Task:
    """Say what the target asks for: fractions are measured, integers and texts name classes, several are labels."""
    if table.target.ndim == 2:
        return "multilabel"
    return "regression" if table.target.dtype.kind == "f" else "classification"


def clean(table: Table, task: Task, spec: Clean) -> CleanRows:
    """Leave out rows as ``spec`` says, then classes with too few rows; raise InvalidDataset if little is left."""
    kept = _Kept(np.ones(len(table.target), np.bool_), dict(table.removed))
    finite, whole = _finite(table.features, allow_missing=spec.missing != "drop")
    if table.target.dtype.kind == "f":
        finite &= np.isfinite(table.target)
    kept.only(finite, "missing or infinite values" if whole else "infinite values")
    for name, (low, high) in spec.range.items():
        kept.only(_within(table, name, low, high), f"outside {low:g} to {high:g} in {name!r}")
    if spec.duplicates == "drop":
        kept.only(_first_of_each(table, kept.rows), "equal to an earlier row")
    match task:
        case "generation":
            return CleanRows(kept.rows, table.target, (), kept.removed)
        case "regression":
            return _numbers(table, kept)
        case "classification":
            return _classes(table, kept, spec.smallest_class)
        case "multilabel":
            return _marks(table, kept, spec.smallest_class)


def spans(rows: int) -> Iterator[slice]:
    """Yield slices that cover so many rows, each small enough to copy."""
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, rows))


@dataclass(slots=True)
class _Kept:
    rows: Mask
    removed: dict[str, int] = field(default_factory=dict)

    def only(self, good: Mask, reason: str) -> None:
        """Keep rows that are ``good``, and count the others."""
        count = int((self.rows & ~good).sum())
        if count:
            self.removed[reason] = self.removed.get(reason, 0) + count
            self.rows = self.rows & good


def _finite(features: NDArray[Any], *, allow_missing: bool) -> tuple[Mask, bool]:
    """Return the rows without an infinite value, and without a missing one unless they are allowed; and whether so."""
    good = np.ones(len(features), np.bool_)
    if features.dtype.kind == "f":
        for span in spans(len(features)):
            chunk = features[span].reshape(span.stop - span.start, -1)
            with np.errstate(over="ignore"):
                chunk = chunk.astype(np.float32)
            good[span] = (~np.isinf(chunk) if allow_missing else np.isfinite(chunk)).all(axis=1)
    return good, not allow_missing


def _within(table: Table, name: str, low: float, high: float) -> Mask:
    if name not in table.names:
        raise InvalidDataset(f"[prepare.clean.range] names column {name!r}, which {table.name!r} does not have")
    column = np.asarray(table.features[:, table.names.index(name)])
    return ~((column < low) | (column > high))  # what is missing lies nowhere, and is not this rule's affair


def _first_of_each(table: Table, rows: Mask) -> Mask:
    """Return the rows no earlier one of ``rows`` is equal to, by a hash of 64 bits over features and target."""
    hashes = np.empty(len(rows), np.uint64)
    for span in spans(len(rows)):
        hashes[span] = _hashes(np.ascontiguousarray(table.features[span]), np.ascontiguousarray(table.target[span]))
    chosen = np.flatnonzero(rows)
    _, first = np.unique(hashes[chosen], return_index=True)
    mask = np.zeros(len(rows), np.bool_)
    mask[chosen[first]] = True
    return mask


def row_hashes(features: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of 64 bits for each row, block by block."""
    hashes = np.empty(len(features), np.uint64)
    for span in spans(len(features)):
        hashes[span] = _hashes(np.ascontiguousarray(features[span]))
    return hashes


def _hashes(*arrays: NDArray[Any]) -> NDArray[np.uint64]:
    """Hash rows by FNV-1a over their bytes, eight or fewer at a time."""
    total = np.full(len(arrays[0]), 0xCBF29CE484222325, np.uint64)
    for array in arrays:
        data = array.reshape(len(array), -1).view(np.uint8)
        padded = np.pad(data, [(0, 0), (0, -data.shape[1] % 8)])
        for word in padded.view(np.uint64).T:
            total = (total ^ word) * np.uint64(0x100000001B3)
            total ^= total >> np.uint64(29)  # let the high bits reach the low ones, which a product does not
    return total


def _numbers(table: Table, kept: _Kept) -> CleanRows:
    if table.labels or table.target.dtype.kind not in "biuf":
        shown = table.labels[int(table.target[0])] if table.labels else str(table.target[0])
        raise InvalidDataset(
            f"the target of {table.name!r} holds texts such as {shown[:40]!r}; regression needs numbers"
        )
    target = table.target.astype(np.float64)
    usable = target[kept.rows]
    if len(usable) == 0 or usable.min() == usable.max():
        raise InvalidDataset(f"{table.name!r} has {len(usable)} usable rows, all of the same target")
    return CleanRows(kept.rows, target, (), kept.removed)


def _classes(table: Table, kept: _Kept, smallest: int) -> CleanRows:
    found, index = np.unique(table.target, return_inverse=True)
    if len(found) > MAX_CLASSES:
        raise InvalidDataset(
            f"{table.name!r} has {len(found)} different classes; {MAX_CLASSES} are the limit",
            hint='if it is a measurement, say so in the recipe: [prepare] task = "regression"',
        )
    usable = np.bincount(index[kept.rows], minlength=len(found)) >= smallest
    if usable.sum() < 2:
        rows = "two usable rows" if smallest == 2 else f"{smallest} usable rows"
        raise InvalidDataset(f"{table.name!r} has {usable.sum()} classes with {rows} or more; training needs two")
    few = "only row of its class" if smallest == 2 else f"of a class with fewer than {smallest} rows"
    kept.only(usable[index], few)
    new_index = np.cumsum(usable) - 1
    labels = tuple(_label(table, value) for value in found[usable])
    return CleanRows(kept.rows, new_index[index].astype(np.int64), labels, kept.removed)


def _marks(table: Table, kept: _Kept, smallest: int) -> CleanRows:
    """Leave out labels that too few of the rows have, or have not: there is nothing to tell apart."""
    if table.target.ndim != 2:
        raise InvalidDataset(f"{table.name!r} has one class a row; several labels come in tables")
    have, rows = table.target[kept.rows].sum(axis=0, dtype=np.int64), int(kept.rows.sum())
    usable = np.minimum(have, rows - have) >= smallest
    if not usable.any():
        raise InvalidDataset(f"{table.name!r} has no label that {smallest} usable rows have, and {smallest} have not")
    notes = tuple(
        f"label {name!r}: {count:,} of {rows:,} rows have it"
        for name, count, good in zip(table.labels, have.tolist(), usable.tolist(), strict=True)
        if not good
    )
    labels = tuple(name for name, good in zip(table.labels, usable.tolist(), strict=True) if good)
    return CleanRows(kept.rows, table.target[:, usable].astype(np.int64), labels, kept.removed, notes)


def _label(table: Table, value: Any) -> str:
    if table.labels and np.issubdtype(table.target.dtype, np.integer) and 0 <= value < len(table.labels):
        return table.labels[int(value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
