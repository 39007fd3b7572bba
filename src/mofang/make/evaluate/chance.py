"""How much of a score is chance: bootstrap intervals, and paired comparisons of two models on the same rows.

Pure numpy; all randomness has a fixed seed, so that a report can be recomputed.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mofang.make.evaluate.report import Comparison, RegressionScores, Scores

Mask = NDArray[np.bool_]
Classes = NDArray[np.int64]
Numbers = NDArray[np.float64]

_ROUNDS = 1_000
_MOST_DRAWS = 20_000_000  # rows drawn in all: fewer rounds for very many rows, whose intervals are narrow anyway
_ENDS = (2.5, 97.5)  # percent


def class_intervals(scores: Scores) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of what follows from the confusion matrix.

    Rows drawn with replacement fall into its cells by a multinomial law, so that no row is looked at again.
    """
    counts = np.array(scores.confusion, np.int64)
    i, j = np.nonzero(counts)
    cells = counts[i, j]
    drawn = np.random.default_rng(0).multinomial(cells.sum(), cells / cells.sum(), size=_ROUNDS)
    classes = len(counts)
    hits, support, answered = (np.zeros((_ROUNDS, classes)) for _ in range(3))
    for cell in range(len(cells)):
        hits[:, i[cell]] += drawn[:, cell] * (i[cell] == j[cell])
        support[:, i[cell]] += drawn[:, cell]
        answered[:, j[cell]] += drawn[:, cell]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = hits / support, 2 * hits / (support + answered)
    found = {
        "accuracy": hits.sum(axis=1) / cells.sum(),
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "macro_f1": np.nanmean(f1, axis=1),
    }
    return {name: _interval(values) for name, values in found.items()}


def label_intervals(truth: Classes, predicted: Classes) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of subset accuracy and micro F1; both arrays are [n, labels] of 0 and 1."""
    right = (truth == predicted).all(axis=1)
    hits, sizes = (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)
    samples = _samples(len(truth))
    found = {
        "subset_accuracy": [float(right[rows].mean()) for rows in samples],
        "micro_f1": [2 * float(hits[rows].sum()) / max(float(sizes[rows].sum()), 1.0) for rows in samples],
    }
    return {name: _interval(np.array(values)) for name, values in found.items()}


def number_intervals(scores: RegressionScores, truth: Numbers, predicted: Numbers) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of RMSE, MAE and R²."""
    apart = predicted - truth
    kept: dict[str, list[float]] = {"rmse": [], "mae": [], "r2": []}
    for rows in _samples(len(truth)):
        mse, spread = float((apart[rows] ** 2).mean()), float(truth[rows].var())
        kept["rmse"].append(mse**0.5)
        kept["mae"].append(float(np.abs(apart[rows]).mean()))
        kept["r2"].append(1 - mse / spread if spread else 0.0)
    return {name: _interval(np.array(values)) for name, values in kept.items()}


def compare_classes(rival: str, version: str, right: Mask, rival_right: Mask, metric: str = "accuracy") -> Comparison:
    """Compare two classifiers by which rows each answers rightly; the interval is Wald's for paired proportions."""
    only_this, only_rival = int((right & ~rival_right).sum()), int((rival_right & ~right).sum())
    rows = len(right)
    difference = (only_this - only_rival) / rows
    deviation = ((only_this + only_rival) / rows - difference**2) ** 0.5 / rows**0.5
    return Comparison(
        rival, version, metric, difference, difference - 1.96 * deviation, difference + 1.96 * deviation,
        mcnemar(only_this, only_rival), only_this, only_rival,
    )  # fmt: skip


def compare_numbers(
    rival: str, version: str, truth: Numbers, predicted: Numbers, rival_predicted: Numbers
) -> Comparison:
    """Compare two regressions by a paired bootstrap of the difference of their RMSE."""
    ours, theirs = (predicted - truth) ** 2, (rival_predicted - truth) ** 2

    def difference(rows: NDArray[np.int64] | slice) -> float:
        return float(ours[rows].mean() ** 0.5 - theirs[rows].mean() ** 0.5)

    drawn = np.array([difference(rows) for rows in _samples(len(truth))])
    low, high = _interval(drawn)
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    p_value = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    return Comparison(rival, version, "rmse", difference(slice(None)), low, high, p_value)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p of McNemar's test: rows only the first, and only the second, answered rightly.

    Under the null hypothesis each such row falls on either side with probability one half (McNemar 1947, in the exact
    binomial form). 1.0 if no row differs.
    """
    rows, fewer = only_first + only_second, min(only_first, only_second)
    term = tail = 1  # binomial coefficients, each from the one before
    for k in range(fewer):
        term = term * (rows - k) // (k + 1)
        tail += term
    return float(min(Fraction(1), Fraction(2 * tail, 2**rows)))


def _samples(rows: int) -> list[NDArray[np.int64]]:
    random = np.random.default_rng(0)
    rounds = max(min(_ROUNDS, _MOST_DRAWS // rows), 100)
    return [random.integers(0, rows, rows) for _ in range(rounds)]


def _interval(values: Numbers) -> tuple[float, float]:
    low, high = np.percentile(values, _ENDS).tolist()
    return low, high
