"""How far two sets of values lie apart: the population stability index, and a test of whether chance explains it.

The index is the sum over bins of ``(q - p) * ln(q / p)`` for the shares p and q (Kullback and Leibler's J-divergence);
by custom, above 0.1 a column has shifted, above 0.25 much. Numbers are tested by Kolmogorov and Smirnov, categories by
chi-squared. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 10
_LEAST_SHARE = 1e-4  # an empty bin would make the index infinite
_LEAST_ROWS = 20


@dataclass(frozen=True, slots=True)
class Drift:
    """``statistic`` is that of the ``test``, ``p`` the chance of one as large if nothing differs."""

    psi: float
    test: str  # ks | chi2
    statistic: float
    p: float


def drift_of_numbers(first: NDArray[np.float64], second: NDArray[np.float64]) -> Drift | None:
    """Compare two samples, without missing values; None if one is too small to say anything."""
    from scipy.stats import ks_2samp

    if min(len(first), len(second)) < _LEAST_ROWS:
        return None
    edges = np.unique(np.quantile(first, np.linspace(0, 1, _BINS + 1)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in (first, second)]
    found = ks_2samp(first, second, method="asymp")
    return Drift(_psi(counts[0], counts[1]), "ks", float(found.statistic), float(found.pvalue))


def drift_of_counts(first: NDArray[Any], second: NDArray[Any]) -> Drift | None:
    """Compare how often each category occurs; None if there are too few rows."""
    from scipy.stats import chi2_contingency

    if min(first.sum(), second.sum()) < _LEAST_ROWS:
        return None
    there = (first + second) > 0
    table = np.stack([first[there], second[there]])
    if table.shape[1] < 2:
        return Drift(0.0, "chi2", 0.0, 1.0)
    found = chi2_contingency(table)
    return Drift(_psi(table[0], table[1]), "chi2", float(found.statistic), float(found.pvalue))


def _psi(first: NDArray[Any], second: NDArray[Any]) -> float:
    shares = [np.maximum(each / max(each.sum(), 1), _LEAST_SHARE) for each in (first, second)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
