"""What an evaluation found, as plain numbers.

Made by :mod:`mofang.make.evaluate.metrics` from labels and predictions, judged by :mod:`mofang.make.evaluate.gate`,
kept by the store, drawn by the picture and told by the card. It knows no engine and no version.
"""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Report:
    """Scores, what computing them took, and what the gate said (``failures`` is empty if it passed)."""

    scores: Scores
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
        scores = self.scores
        return {
            "accuracy": scores.accuracy,
            "macro_precision": scores.macro_precision,
            "macro_recall": scores.macro_recall,
            "macro_f1": scores.macro_f1,
        }
