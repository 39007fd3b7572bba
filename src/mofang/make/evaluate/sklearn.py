"""What probabilities are worth: areas, losses and curves, by scikit-learn; calibration by ourselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, log_loss, precision_recall_curve, roc_curve

from mofang.make.evaluate.metrics import Indices
from mofang.make.evaluate.report import Bin, Curve, Probabilities, Scores

_BINS = 15
_POINTS = 48  # of a curve, at most: a picture shows no more
_MOST_CURVES = 20  # classes

Numbers = NDArray[np.float64]


def with_probabilities(scores: Scores, truth: Indices, probabilities: Numbers) -> Scores:
    """Add to ``scores`` what ``probabilities`` [n, classes] tell beside the answers; ``truth`` is [n] class indices.

    Areas are means over the classes that have rows, and not all of them. Rows are made to sum to one for the log loss.
    """
    roc, precision_recall, areas, precisions = [], [], [], []
    for index, label in enumerate(scores.labels):
        is_class = truth == index
        if not is_class.any() or is_class.all():
            continue
        false, true, _ = roc_curve(is_class, probabilities[:, index])
        precision, recall, _ = precision_recall_curve(is_class, probabilities[:, index])
        areas.append(float(auc(false, true)))
        precisions.append(float(average_precision_score(is_class, probabilities[:, index])))
        roc.append(_curve(label, false, true, areas[-1]))
        precision_recall.append(_curve(label, recall[::-1], precision[::-1], precisions[-1]))
    error, bins = calibration(truth, probabilities)
    sums = np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    loss = log_loss(truth, np.clip(probabilities / sums, 1e-15, 1), labels=range(len(scores.labels)))
    return replace(
        scores,
        roc_auc=float(np.mean(areas)) if areas else None,
        pr_auc=float(np.mean(precisions)) if precisions else None,
        log_loss=float(loss),
        calibration_error=error,
        probabilities=Probabilities(tuple(roc[:_MOST_CURVES]), tuple(precision_recall[:_MOST_CURVES]), bins),
    )


def calibration(truth: Indices, probabilities: Numbers) -> tuple[float, tuple[Bin, ...]]:
    """Return the expected calibration error of the answers, and its bins (Guo et al. 2017, equation 3)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    bins, error = [], 0.0
    for index in range(_BINS):
        inside = place == index
        if inside.any():
            found = Bin(float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum()))
            bins.append(found)
            error += found.rows / len(truth) * abs(found.confidence - found.accuracy)
    return error, tuple(bins)


def _curve(label: str, x: Numbers, y: Numbers, area: float) -> Curve:
    """Keep points at even distances along the curve."""
    if len(x) > _POINTS:
        along = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], _POINTS)).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(label, tuple(np.round(x, 4).tolist()), tuple(np.round(y, 4).tolist()), area)
