"""Stratified samples: every class keeps its share, and the same seed draws the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LAYERS = 10
_ROWS_PER_LAYER = 20


def strata(target: NDArray[Any]) -> NDArray[np.int64]:
    """Return what to sample evenly from: the class of each row, or the tenth of all numbers that it falls into."""
    if target.dtype.kind != "f":
        return target.astype(np.int64)
    layers = min(max(len(target) // _ROWS_PER_LAYER, 1), _LAYERS)
    rank = np.argsort(np.argsort(target, kind="stable"), kind="stable")
    return (rank * layers // max(len(target), 1)).astype(np.int64)


def draw(classes: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask that is true for about ``share`` of the rows of every class, at least one, never all."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(classes), dtype=np.bool_)
    order = np.argsort(classes, kind="stable")
    edges = np.flatnonzero(np.diff(classes[order])) + 1
    for rows in np.split(order, edges):
        count = min(max(round(len(rows) * share), 1), len(rows) - 1)
        chosen[random.permutation(rows)[:count]] = True
    return chosen
