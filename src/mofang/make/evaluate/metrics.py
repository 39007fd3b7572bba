"""Classification scores from labels and predictions: pure numpy, defined as in scikit-learn with zero_division=0.

Called by the suite for a report, and by ``compress`` to compare two sets of predictions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mofang.make.evaluate.report import ClassScores, Scores

Indices = NDArray[np.int64]


def confusion_matrix(truth: Indices, predicted: Indices, classes: int) -> Indices:
    """Return the ``[classes, classes]`` counts; row: true class, column: predicted class."""
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def score(truth: Indices, predicted: Indices, labels: tuple[str, ...]) -> Scores:
    """Score ``predicted`` against ``truth``, both ``[n]`` class indices into ``labels``, n > 0.

    Macro averages take every class that occurs in the truth or in the predictions, each with the same weight.
    """
    counts = confusion_matrix(truth, predicted, len(labels))
    hits = np.diagonal(counts).astype(np.float64)
    support, answered = counts.sum(axis=1), counts.sum(axis=0)
    precision = _ratio(hits, answered)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + answered)
    seen = (support + answered) > 0
    return Scores(
        rows=len(truth),
        accuracy=float(hits.sum() / len(truth)),
        macro_precision=float(precision[seen].mean()),
        macro_recall=float(recall[seen].mean()),
        macro_f1=float(f1[seen].mean()),
        classes=tuple(
            ClassScores(label, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        ),
        confusion=tuple(tuple(row) for row in counts.tolist()),
    )


def _ratio(top: NDArray[np.float64], bottom: Indices) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
