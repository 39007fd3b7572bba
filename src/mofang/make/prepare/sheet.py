"""The data sheet: what prepared rows look like, and what about them should make one stop and look.

Computed once, when data is prepared, from the stored splits: block by block, so that memory does not grow with the
rows but for eight bytes each, by which equal rows are found. Where an order of values is needed, a random sample of
bounded size stands for all. Warnings are suspicions, told with the number they rest on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.make.prepare.clean import row_hashes
from mofang.make.prepare.columns import Column
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.prepare.drift import Drift, drift_of_counts, drift_of_numbers
from mofang.make.prepare.encode import Texts, strings

MOST_COLUMNS = 300
BINS = 20
_SAMPLE_ROWS = 20_000
_MOST_SHOWN = 8  # values of a category
_CELLS, _ROWS_OF_CELL = 256, 8  # into which a column is cut to see what it tells of the target, at most
_SEED = 0
_BLOCK_VALUES = 1 << 20  # looked at together
_TELLS_ALL, _MISSING, _UNEVEN, _MOVED = 0.98, 0.5, 10.0, 0.25


@dataclass(frozen=True, slots=True)
class Warning:
    """A suspicion: what kind it is, of which column, and in words."""

    kind: str  # leakage | duplicates | imbalance | drift | missing | constant
    column: str
    message: str


@dataclass(frozen=True, slots=True)
class ColumnSheet:
    """One column of the training rows, and how that of the held-out rows differs.

    ``missing`` are shares, of the training rows and of the held-out. Numbers and dates have ``low``, ``high``, ``mean``
    and ``deviation`` (dates in hours since 1970), and ``train`` and ``test`` count values in twenty equal steps from
    low to high. Categories have ``values``, the most frequent, which ``train`` and ``test`` count. ``tells``: how much
    of the target the column tells alone, from 0 to 1, measured on held-out rows.
    """

    name: str
    kind: str
    missing: tuple[float, float]
    distinct: int = 0  # of categories; of others unknown
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    deviation: float = 0.0
    values: tuple[str, ...] = ()
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    drift: Drift | None = None
    tells: float = 0.0


@dataclass(frozen=True, slots=True)
class Sheet:
    """All of it. ``classes`` counts the rows of each class in each split; ``duplicates`` equal rows, by where."""

    rows: Mapping[str, int]
    columns: tuple[ColumnSheet, ...] = ()
    more_columns: int = 0  # that are there, and are not looked at one by one
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    target: ColumnSheet | None = None  # of numbers
    duplicates: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[Warning, ...] = ()


def sheet_of(train: Examples, test: Examples) -> Sheet:
    """Describe a dataset by its splits."""
    columns = tuple(_columns(train, test))
    classes = _class_counts(train, test)
    target = None if classes else _target(train.target, test.target)
    duplicates = _duplicates(train, test)
    width = len(train.schema.columns) or (0 if train.schema.shape else train.schema.features)
    rows = {"train": len(train.target), "test": len(test.target)}
    warnings = (*_about_rows(rows, duplicates, classes), *(w for column in columns for w in _about(column)))
    return Sheet(rows, columns, max(width - len(columns), 0), classes, target, duplicates, warnings)


# --- columns ------------------------------------------------------------------------------------------------------


def _columns(train: Examples, test: Examples) -> list[ColumnSheet]:
    schema = train.schema
    if schema.shape:  # a pixel by itself says nothing
        return []
    known = schema.columns or tuple(
        Column(name, "number") for name in schema.names or [f"feature {n}" for n in range(schema.features)]
    )
    known = known[:MOST_COLUMNS]
    samples = _sample(train), _sample(test)
    moments = _moments(train, len(known)), _moments(test, len(known))
    counts = [_counts(examples, known, moments[0]) for examples in (train, test)]
    return [
        _column(
            column,
            (samples[0][0][:, index], samples[1][0][:, index]),
            (samples[0][1], samples[1][1]),
            (moments[0][index], moments[1][index]),
            (counts[0][index], counts[1][index]),
            train.texts,
        )
        for index, column in enumerate(known)
    ]


Sample = tuple[NDArray[Any], Target]


def _sample(examples: Examples) -> Sample:
    """Return some rows as stored, and their target, drawn at random."""
    count = len(examples.target)
    index = np.arange(count)
    if count > _SAMPLE_ROWS:
        index = np.sort(np.random.default_rng(_SEED).choice(count, _SAMPLE_ROWS, replace=False))
    return np.asarray(examples.features[index]).reshape(len(index), -1), examples.target[index]


def _column(
    column: Column,
    sampled: tuple[NDArray[Any], NDArray[Any]],
    targets: tuple[Target, Target],
    moments: tuple[_Moments, _Moments],
    counts: tuple[NDArray[np.int64], NDArray[np.int64]],
    texts: Texts,
) -> ColumnSheet:
    """Put together what is known of one column, in both splits."""
    own = moments[0]
    missing, tells = (own.missing, moments[1].missing), _tells(sampled, targets, column.kind)
    if column.kind == "category":
        order = np.argsort(-counts[0], kind="stable")[:_MOST_SHOWN]
        return ColumnSheet(
            column.name, column.kind, missing, int((counts[0] > 0).sum()),
            values=tuple(column.values[position] for position in order.tolist()),
            train=tuple(counts[0][order].tolist()), test=tuple(counts[1][order].tolist()),
            drift=drift_of_counts(counts[0], counts[1]), tells=tells,
        )  # fmt: skip
    if column.kind == "text":
        lengths = [len(text) for text in strings(column, sampled[0], texts)] or [0]
        mean, deviation = float(np.mean(lengths)), float(np.std(lengths))
        low, high = float(min(lengths)), float(max(lengths))
        return ColumnSheet(column.name, column.kind, missing, 0, low, high, mean, deviation)
    drift = drift_of_numbers(*(values[np.isfinite(values)].astype(np.float64) for values in sampled))
    return ColumnSheet(
        column.name, column.kind, missing, 0, own.low, own.high, own.mean, own.deviation,
        train=tuple(counts[0].tolist()), test=tuple(counts[1].tolist()), drift=drift, tells=tells,
    )  # fmt: skip


# --- counted over all rows, block by block ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Moments:
    missing: float
    low: float
    high: float
    mean: float
    deviation: float


def _moments(examples: Examples, width: int) -> list[_Moments]:
    """Return the moments of the first ``width`` columns, in double precision."""
    count, total, squares = np.zeros(width), np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    pivot: NDArray[np.float64] | None = None  # near the values, so that squares keep their digits
    for values in _blocks(examples, width):
        there = np.isfinite(values)
        if pivot is None:
            pivot = np.where(there.any(axis=0), values[there.argmax(axis=0), np.arange(width)], 0.0)
        apart = np.where(there, values - pivot, 0.0)
        count += there.sum(axis=0)
        total += apart.sum(axis=0)
        squares += (apart**2).sum(axis=0)
        low = np.minimum(low, np.where(there, values, np.inf).min(axis=0))
        high = np.maximum(high, np.where(there, values, -np.inf).max(axis=0))
    rows, known = len(examples.target), np.maximum(count, 1)
    mean = total / known
    deviation = np.sqrt(np.maximum(squares / known - mean**2, 0.0))
    columns = zip(1 - count / max(rows, 1), low, high, mean + (0 if pivot is None else pivot), deviation, strict=True)
    return [
        _Moments(*map(float, each)) if np.isfinite(each[1]) else _Moments(float(each[0]), 0.0, 0.0, 0.0, 0.0)
        for each in columns
    ]


def _counts(examples: Examples, columns: Sequence[Column], moments: Sequence[_Moments]) -> list[NDArray[np.int64]]:
    """Count every column: categories by value, others in equal steps; what lies outside counts in the outermost."""
    kinds = [len(column.values) if column.kind == "category" else BINS for column in columns]
    counts = [np.zeros(kind, np.int64) for kind in kinds]
    for values in _blocks(examples, len(columns)):
        for index, (column, own) in enumerate(zip(columns, moments, strict=True)):
            there = values[:, index][np.isfinite(values[:, index])]
            if column.kind != "category":
                there = ((there - own.low) / ((own.high - own.low) or 1.0) * BINS).clip(0, BINS - 1)
            counts[index] += np.bincount(there.astype(np.int64), minlength=kinds[index])
    return counts


def _blocks(examples: Examples, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield the first ``width`` columns of some rows at a time, as numbers in double precision."""
    step = max(1, _BLOCK_VALUES // max(width, 1))
    for start in range(0, len(examples.target), step):
        rows = np.asarray(examples.features[start : start + step])
        yield rows.reshape(len(rows), -1)[:, :width].astype(np.float64)


# --- what a column tells ------------------------------------------------------------------------------------------


def _tells(values: tuple[NDArray[Any], NDArray[Any]], targets: tuple[Target, Target], kind: str) -> float:
    """Return how much of the target a column tells alone: learned in cells of the first sample, asked on the second."""
    if kind == "text" or not len(values[1]) or targets[0].ndim == 2:
        return 0.0
    cells = _cells(values, kind)
    if targets[0].dtype.kind == "f":
        mean = float(targets[0].mean())
        means = _means(cells[0], cells[1], targets[0], mean)
        left, all_of_it = ((targets[1] - means[cells[1]]) ** 2).sum(), ((targets[1] - mean) ** 2).sum()
        return max(0.0, 1 - float(left / all_of_it)) if all_of_it else 0.0
    table = np.zeros((int(max(cells[0].max(), cells[1].max())) + 1, int(max(map(np.max, targets))) + 1), np.int64)
    np.add.at(table, (cells[0], targets[0].astype(np.int64)), 1)
    usual = int(np.bincount(targets[0]).argmax())
    guess = np.where(table.sum(axis=1) > 0, table.argmax(axis=1), usual)
    right, base = float((guess[cells[1]] == targets[1]).mean()), float((targets[1] == usual).mean())
    return max(0.0, (right - base) / (1 - base)) if base < 1 else 0.0


def _cells(values: tuple[NDArray[Any], NDArray[Any]], kind: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if kind == "category":
        first, second = (np.where(np.isnan(each), -1, each).astype(np.int64) + 1 for each in values)
        return first, second
    there = values[0][np.isfinite(values[0])]
    cells = min(_CELLS, max(len(there) // _ROWS_OF_CELL, 2))
    edges = np.unique(np.quantile(there, np.linspace(0, 1, cells + 1)[1:-1])) if len(there) else np.zeros(0)
    found = [np.where(np.isfinite(each), np.searchsorted(edges, each) + 1, 0).astype(np.int64) for each in values]
    return found[0], found[1]


def _means(
    cells: NDArray[np.int64], asked: NDArray[np.int64], target: NDArray[Any], mean: float
) -> NDArray[np.float64]:
    most = max(int(cells.max()), int(asked.max())) + 1
    counts, sums = np.bincount(cells, minlength=most), np.bincount(cells, weights=target, minlength=most)
    return np.where(counts > 0, sums / np.maximum(counts, 1), mean)


# --- rows ---------------------------------------------------------------------------------------------------------


def _class_counts(train: Examples, test: Examples) -> dict[str, tuple[int, int]]:
    labels = train.schema.labels
    if not labels:
        return {}
    targets = train.target, test.target
    several = targets[0].ndim == 2
    counts = [(each.sum(axis=0) if several else np.bincount(each, minlength=len(labels))).tolist() for each in targets]
    return {label: (first, second) for label, first, second in zip(labels, *counts, strict=True)}


def _target(train: Target, test: Target) -> ColumnSheet:
    both = train.astype(np.float64), test.astype(np.float64)
    low, high = float(both[0].min()), float(both[0].max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = [np.histogram(each.clip(low, high), edges)[0].tolist() for each in both]
    return ColumnSheet(
        "target", "number", (0.0, 0.0), low=low, high=high, mean=float(both[0].mean()),
        deviation=float(both[0].std()), train=tuple(counts[0]), test=tuple(counts[1]), drift=drift_of_numbers(*both),
    )  # fmt: skip


def _duplicates(train: Examples, test: Examples) -> dict[str, int]:
    """Count rows whose features are equal to those of another: among training rows, and across the split."""
    first, second = (row_hashes(each.features) for each in (train, test))
    known = np.unique(first)
    return {"train": len(first) - len(known), "across": int(np.isin(second, known).sum())}


def _about_rows(
    rows: Mapping[str, int], duplicates: Mapping[str, int], classes: Mapping[str, tuple[int, int]]
) -> list[Warning]:
    found = []
    across = duplicates["across"] / max(rows["test"], 1)
    if across >= 0.01:
        said = f"{duplicates['across']:,} of {rows['test']:,} held-out rows ({across:.0%}) are also trained on"
        found.append(Warning("leakage", "", f"{said}: what is measured on them is too good"))
    share = duplicates["train"] / max(rows["train"], 1)
    if share >= 0.05:
        found.append(Warning("duplicates", "", f"{share:.0%} of the training rows repeat another"))
    if classes:
        counts = {label: pair[0] for label, pair in classes.items()}
        most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
        ratio = counts[most] / max(counts[least], 1)
        if ratio >= _UNEVEN:
            said = f"class {most!r} has {ratio:.0f} times as many rows as {least!r} ({counts[least]:,})"
            found.append(Warning("imbalance", "", f"{said}: look at recall, and try class_weights"))
    return found


def _about(column: ColumnSheet) -> list[Warning]:
    found, name = [], column.name
    if column.tells >= _TELLS_ALL:
        said = f"{name!r} alone tells {column.tells:.1%} of the target: is it known when one asks?"
        found.append(Warning("leakage", name, said))
    if max(column.missing) >= _MISSING:
        found.append(Warning("missing", name, f"{max(column.missing):.0%} of {name!r} is missing"))
    is_constant = column.distinct == 1 if column.kind == "category" else column.low == column.high
    if is_constant and column.kind != "text" and column.missing[0] < 1:
        found.append(Warning("constant", name, f"{name!r} is always the same"))
    if column.drift and column.drift.psi >= _MOVED and column.drift.p < 0.001:
        said = f"{name!r} is distributed otherwise in the held-out rows (PSI {column.drift.psi:.2f})"
        found.append(Warning("drift", name, said))
    return found
