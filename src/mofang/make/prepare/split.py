"""Which rows are held out: stratified samples, the latest, or whole groups; the same seed draws the same rows.

The rows that are held out of a dataset and the rows that training keeps aside are chosen by the same rule.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

By = Literal["rows", "time", "group"]
"""What rows are held out by: see ``[prepare.split]``."""

_LAYERS = 10
_ROWS_PER_LAYER = 20


def strata(target: NDArray[Any]) -> NDArray[np.int64]:
    """Return what to sample evenly from: the class of each row, or the tenth of all numbers that it falls into.

    Of several labels [n, labels] it is the rarest that a row has.
    """
    if target.ndim == 2:
        rarest = np.argsort(target.sum(axis=0), kind="stable")
        ordered = target[:, rarest] > 0
        found = np.where(ordered.any(axis=1), ordered.argmax(axis=1), target.shape[1])
        return np.asarray(found, np.int64)
    if target.dtype.kind != "f":
        return target.astype(np.int64)
    layers = min(max(len(target) // _ROWS_PER_LAYER, 1), _LAYERS)
    rank = np.argsort(np.argsort(target, kind="stable"), kind="stable")
    return (rank * layers // max(len(target), 1)).astype(np.int64)


def choose(by: By, apart: NDArray[Any] | None, layers: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask of about ``share`` of the rows; ``apart`` [rows] says when they are from, or of which group."""
    if by == "rows" or apart is None:
        return draw(layers, share, seed)
    return latest(apart, share) if by == "time" else whole_groups(apart, layers, share, seed)


def classes_in(target: NDArray[Any]) -> NDArray[np.int64]:
    """Return the classes, or labels, that some row of ``target`` has."""
    return np.flatnonzero(target.any(axis=0)) if target.ndim == 2 else np.unique(target).astype(np.int64)


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


def latest(values: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return a mask of about ``share`` of the rows, those with the largest values; equal values stay together."""
    edge = np.quantile(values, 1 - share, method="higher")
    return np.asarray(values >= edge if (values < edge).any() else values > edge)


def whole_groups(groups: NDArray[Any], layers: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Return a mask of whole groups: about ``share`` of those of every layer, at least one, never all of a layer.

    A group belongs to the layer of its first row.
    """
    _, first, index = np.unique(groups, return_index=True, return_inverse=True)
    return np.asarray(draw(layers[first], share, seed)[index])
