"""Where fitted scikit-learn pipelines bend: the thresholds of their trees and the ranges of their scalers, by column.

Read from the fitted attributes alone, so that nothing of scikit-learn is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAF = -2  # what scikit-learn's trees have for the feature of a leaf


def places(pipeline: Any) -> list[NDArray[np.float64]]:
    """Return for each column of what ``pipeline`` takes the values where its answer bends."""
    columns = int(pipeline.n_features_in_)
    before, last = pipeline[:-1], pipeline[-1]
    found: list[set[float]] = [set() for _ in range(columns)]
    for step in pipeline:
        for column, values in ranges(step, columns):
            found[column].update(values)
    thresholds: list[set[float]] = [set() for _ in range(columns)]
    for column, value in _thresholds(last):
        if column < columns:
            thresholds[column].add(value)
    for column, values in enumerate(_undone(before, thresholds)):
        found[column].update(values)
    return [np.array(sorted(each), np.float64) for each in found]


def ranges(step: Any, columns: int) -> Iterator[tuple[int, list[float]]]:
    """Yield by column what a scaler or imputer knows of it."""
    for low, high in (("data_min_", "data_max_"), ("mean_", "scale_"), ("center_", "scale_")):
        first: Any = getattr(step, low, None)
        second: Any = getattr(step, high, None)
        if np.shape(first) == (columns,) == np.shape(second):
            ends = (first, second) if low == "data_min_" else (first - 2 * second, first + 2 * second)
            yield from ((column, [float(ends[0][column]), float(ends[1][column])]) for column in range(columns))
            return


def _thresholds(model: Any) -> Iterator[tuple[int, float]]:
    """Yield feature and threshold of every split of trees, forests and boosted trees."""
    for predictors in getattr(model, "_predictors", ()):  # histogram gradient boosting
        for predictor in predictors:
            nodes = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            yield from zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True)
    for tree in _trees(model):
        inner = tree.feature != _LEAF
        yield from zip(tree.feature[inner].tolist(), tree.threshold[inner].tolist(), strict=True)


def _trees(model: Any) -> Iterator[Any]:
    if hasattr(model, "tree_"):
        yield model.tree_
    for member in np.ravel(np.asarray(getattr(model, "estimators_", ()), dtype=object)):
        yield from _trees(member)


def _undone(before: Any, thresholds: list[set[float]]) -> list[list[float]]:
    """Return thresholds as they are before the steps that scale, where those can be undone."""
    most = max((len(each) for each in thresholds), default=0)
    if not most or not len(before):
        return [sorted(each) for each in thresholds]
    padded = np.array([[*sorted(each), *[max(each, default=0.0)] * (most - len(each))] for each in thresholds]).T
    try:
        columns = before.inverse_transform(padded).T
    except (AttributeError, ValueError, TypeError):
        return [[] for _ in thresholds]
    return [column[: len(each)].tolist() for column, each in zip(columns, thresholds, strict=True)]
