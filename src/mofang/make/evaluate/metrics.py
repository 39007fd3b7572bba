"""Scores from truth and predictions: pure numpy, defined as in scikit-learn (with zero_division=0).

Called by the suite for a report, and by ``compress`` to compare two sets of predictions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mofang.make.evaluate.report import ClassScores, LabelScores, RegressionScores, Residuals, Scores

Indices = NDArray[np.int64]
Numbers = NDArray[np.float64]

_STEPS = 24  # of the histogram of residuals


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
        balanced_accuracy=float(recall[support > 0].mean()),
        micro_f1=float(hits.sum() / len(truth)),
    )


def score_labels(truth: Indices, predicted: Indices, labels: tuple[str, ...]) -> LabelScores:
    """Score ``predicted`` against ``truth``, both ``[n, labels]`` of 0 and 1, n > 0.

    Macro averages take every label that occurs in the truth or in the predictions, each with the same weight.
    """
    hits = (truth & predicted).sum(axis=0).astype(np.float64)
    support, answered = truth.sum(axis=0), predicted.sum(axis=0)
    precision, recall = _ratio(hits, answered), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + answered)
    seen = (support + answered) > 0
    macro = [float(each[seen].mean()) if seen.any() else 0.0 for each in (precision, recall, f1)]
    right, said, there = (each.sum(keepdims=True) for each in (hits, answered, support))
    return LabelScores(
        rows=len(truth),
        subset_accuracy=float((truth == predicted).all(axis=1).mean()),
        hamming_loss=float((truth != predicted).mean()),
        micro_precision=float(_ratio(right, said)[0]),
        micro_recall=float(_ratio(right, there)[0]),
        micro_f1=float(_ratio(2 * right, said + there)[0]),
        macro_precision=macro[0],
        macro_recall=macro[1],
        macro_f1=macro[2],
        classes=tuple(
            ClassScores(label, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        ),
    )


def score_numbers(truth: Numbers, predicted: Numbers) -> RegressionScores:
    """Score ``predicted`` against ``truth``, both ``[n]`` finite numbers, n > 0."""
    apart = predicted - truth
    mse, spread = float((apart**2).mean()), float(truth.var())
    unexplained = mse / spread if spread else float(mse > 0)
    low, p05, p25, median, p75, p95, high = np.quantile(apart, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]).tolist()
    counts = np.histogram(apart, _STEPS)[0] if high > low else np.array([len(truth)])
    return RegressionScores(
        rows=len(truth),
        mse=mse,
        rmse=float(np.sqrt(mse)),
        mae=float(np.abs(apart).mean()),
        r2=1.0 - unexplained,
        mape=float((np.abs(apart) / np.maximum(np.abs(truth), np.finfo(np.float64).eps)).mean()),
        residuals=Residuals(low, p05, p25, median, p75, p95, high, tuple(counts.tolist())),
    )


def _ratio(top: NDArray[np.float64], bottom: Indices) -> NDArray[np.float64]:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
