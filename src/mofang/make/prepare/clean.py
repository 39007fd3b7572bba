"""From a Table to rows that can be trained on: what is unusable is dropped and counted; classes become indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare.table import Table
from mofang.make.recipe import Task

MAX_CLASSES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """Finite features (uint8, else float32) and target; the last ``test_rows`` are held out.

    The target holds class indices, and ``labels`` the classes' names; or finite numbers (float64), and no labels.
    """

    features: NDArray[Any]
    target: NDArray[np.int64] | NDArray[np.float64]
    labels: tuple[str, ...]
    test_rows: int
    removed: dict[str, int]


def task_of(table: Table) -> Task:
    """Say what the target asks for: fractions are measured, integers and texts name classes."""
    return "regression" if table.target.dtype.kind == "f" else "classification"


def clean(table: Table, task: Task) -> CleanRows:
    """Drop rows with missing or infinite values, then classes of one row; raise InvalidDataset if little is left."""
    features = table.features
    finite = np.ones(len(features), np.bool_)
    if features.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is dropped as such
            features = features.astype(np.float32)
        finite = np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    if table.target.dtype.kind == "f":
        finite &= np.isfinite(table.target)
    return _numbers(table, features, finite) if task == "regression" else _classes(table, features, finite)


def _numbers(table: Table, features: NDArray[Any], finite: NDArray[np.bool_]) -> CleanRows:
    if table.target.dtype.kind not in "biuf":
        raise InvalidDataset(
            f"the target of {table.name!r} holds texts such as {str(table.target[0])[:40]!r}; regression needs numbers"
        )
    target = table.target.astype(np.float64)
    if len(np.unique(target[finite])) < 2:
        raise InvalidDataset(f"{table.name!r} has {int(finite.sum())} usable rows, all of the same target")
    dropped = int((~finite).sum())
    return CleanRows(
        features=features if finite.all() else features[finite],
        target=target[finite],
        labels=(),
        test_rows=int(finite[len(finite) - table.test_rows :].sum()),
        removed={**table.removed, **({"missing or infinite values": dropped} if dropped else {})},
    )


def _classes(table: Table, features: NDArray[Any], finite: NDArray[np.bool_]) -> CleanRows:
    found, index, counts = np.unique(table.target, return_inverse=True, return_counts=True)
    if len(found) > MAX_CLASSES:
        raise InvalidDataset(
            f"{table.name!r} has {len(found)} different classes; {MAX_CLASSES} are the limit",
            hint='if it is a measurement, say so in the recipe: [prepare] task = "regression"',
        )
    counts = np.bincount(index[finite], minlength=len(found))
    usable = counts >= 2
    keep = finite & usable[index]
    if usable.sum() < 2:
        raise InvalidDataset(
            f"{table.name!r} has {usable.sum()} classes with two usable rows or more; training needs two"
        )
    removed = {**table.removed, "missing or infinite values": int((~finite).sum()), "only row of its class": 0}
    removed["only row of its class"] = int((finite & ~keep).sum())
    new_index = np.cumsum(usable) - 1
    return CleanRows(
        features=features if keep.all() else features[keep],
        target=new_index[index[keep]].astype(np.int64),
        labels=tuple(_label(table, value) for value in found[usable]),
        test_rows=int(keep[len(keep) - table.test_rows :].sum()),
        removed={reason: count for reason, count in removed.items() if count},
    )


def _label(table: Table, value: Any) -> str:
    if table.labels and np.issubdtype(table.target.dtype, np.integer) and 0 <= value < len(table.labels):
        return table.labels[int(value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
