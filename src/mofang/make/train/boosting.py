"""What training round by round has in common, whichever library does it: validation rows, and the curve.

Used by the trainers of XGBoost, LightGBM, CatBoost and Vowpal Wabbit; it knows none of them.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset, TrainingFailed
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.recipe import CatBoost, LightGBM, VowpalWabbit, XGBoost
from mofang.make.train.model import curve_report

_REPORTS = 50  # of a run, at most: a round may take a millisecond, and each report is written to the disk


def validation_rows(spec: XGBoost | LightGBM | CatBoost | VowpalWabbit, examples: Examples) -> NDArray[np.bool_]:
    """Return a mask of the rows kept aside; raise InvalidDataset if there is nothing to learn."""
    target = examples.target
    if len(np.unique(target)) < 2:
        what = "numbers that differ" if target.dtype.kind == "f" else "rows of two classes or more"
        raise InvalidDataset(f"training needs {what}")
    return examples.aside(spec.validation_fraction, spec.seed)


class Curve:
    """Grows by a point a round, and reports often enough to follow and to cancel."""

    def __init__(self, rounds: int, rows: int, validation: Target, progress: Progress, unit: str = "round") -> None:
        self._unit = unit
        self._rounds, self._rows, self._progress = rounds, rows, progress
        self._spread = float(validation.var()) if validation.dtype.kind == "f" else 0.0
        self._regression = validation.dtype.kind == "f"
        self._started = time.perf_counter()
        self.points: list[dict[str, float]] = []

    def add(self, loss: float, error: float) -> None:
        """Note a round: its loss (log loss, or mean squared error), and the share of wrong classes."""
        if not np.isfinite(loss):
            raise TrainingFailed("the loss is not finite any more")
        number = len(self.points) + 1
        if self._regression:
            quality = {"r2": 1 - loss / self._spread if self._spread else 0.0}
        else:
            quality = {"accuracy": 1 - error}
        seconds = time.perf_counter() - self._started
        speed = number * self._rows / seconds
        self.points.append(
            {"epoch": float(number), "loss": loss, **quality, "seconds": seconds, "rows_per_second": speed}
        )
        if number % max(self._rounds // _REPORTS, 1) == 0 or number == self._rounds:
            curve_report(self._progress, number, self._rounds, self.points[-1], self._unit)

    @property
    def best_rounds(self) -> int:
        """How many rounds gave the lowest loss, the first such."""
        return int(np.argmin([point["loss"] for point in self.points])) + 1

    @property
    def seconds(self) -> float:
        """Seconds since training began."""
        return time.perf_counter() - self._started
