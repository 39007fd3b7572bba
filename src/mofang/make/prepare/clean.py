"""From a Table to rows that can be trained on: what is unusable is dropped and counted; classes become indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.prepare.table import Table

MAX_CLASSES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class CleanRows:
    """Finite features (uint8, else float32), class indices, the classes' names; the last ``test_rows`` are held out."""

    features: NDArray[Any]
    classes: NDArray[np.int64]
    labels: tuple[str, ...]
    test_rows: int
    removed: dict[str, int]


def clean(table: Table) -> CleanRows:
    """Drop rows with missing or infinite values, then classes of one row; raise InvalidDataset if little is left."""
    features = table.features
    if features.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is dropped as such
            features = features.astype(np.float32)
    finite = np.isfinite(features).all(axis=1)
    found, index, counts = np.unique(table.classes, return_inverse=True, return_counts=True)
    if len(found) > MAX_CLASSES:
        raise InvalidDataset(
            f"{table.name!r} has {len(found)} different classes; {MAX_CLASSES} are the limit",
            hint="is the target a class, and not a measurement? name it in the recipe: [prepare] target",
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
        classes=new_index[index[keep]].astype(np.int64),
        labels=tuple(_label(table, value) for value in found[usable]),
        test_rows=int(keep[len(keep) - table.test_rows :].sum()),
        removed={reason: count for reason, count in removed.items() if count},
    )


def _label(table: Table, value: Any) -> str:
    if table.labels and np.issubdtype(table.classes.dtype, np.integer) and 0 <= value < len(table.labels):
        return table.labels[int(value)]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
