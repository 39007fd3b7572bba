"""What an evaluation found, as plain numbers.

Made by :mod:`mofang.make.evaluate.metrics` from truth and predictions, judged by :mod:`mofang.make.evaluate.gate`,
kept by the store, drawn by the picture and told by the card. It knows no engine and no version.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASSIFICATION = ("accuracy", "macro_precision", "macro_recall", "macro_f1")
REGRESSION = ("mse", "rmse", "mae", "r2", "mape")
"""The metrics of each task, which are the names of fields of its scores, too."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one class is recognised. A score whose denominator is zero is 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # rows that truly belong to the class


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one set of predictions. ``confusion[i][j]`` counts rows of true class i answered as class j."""

    rows: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the confusion matrix."""
        return tuple(entry.label for entry in self.classes)

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        return {name: getattr(self, name) for name in CLASSIFICATION}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        return f"accuracy {self.accuracy:.4f} on {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class Residuals:
    """How far answers lie from the truth (answer minus truth): quantiles, and counts in equal steps between ends."""

    smallest: float
    p05: float
    p25: float
    median: float
    p75: float
    p95: float
    largest: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RegressionScores:
    """Scores of predicted numbers. MAPE is a fraction of the true number, R² is 1 for perfect and 0 for their mean."""

    rows: int
    mse: float
    rmse: float
    mae: float
    r2: float
    mape: float
    residuals: Residuals

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        return {name: getattr(self, name) for name in REGRESSION}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        return f"RMSE {self.rmse:.4g}, R² {self.r2:.4f} on {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class Report:
    """Scores, what computing them took, and what the gate said (``failures`` is empty if it passed)."""

    scores: Scores | RegressionScores
    seconds: float
    gate: str = ""
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the gate let it through; without a gate everything passes."""
        return not self.failures

    @property
    def rows_per_second(self) -> float:
        """Rows the engine answered in a second, in batches."""
        return self.scores.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        return self.scores.metrics
