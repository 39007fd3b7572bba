"""What an evaluation found, as plain numbers.

Made by :mod:`mofang.make.evaluate.metrics` from truth and predictions, judged by :mod:`mofang.make.evaluate.gate`,
kept by the store, drawn by the picture and told by the card. It knows no engine and no version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CLASSIFICATION = (
    "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "micro_f1", "roc_auc", "pr_auc",
    "log_loss", "calibration_error",
)  # fmt: skip
MULTILABEL = (
    "subset_accuracy", "hamming_loss", "micro_precision", "micro_recall", "micro_f1", "macro_precision", "macro_recall",
    "macro_f1",
)  # fmt: skip
REGRESSION = ("mse", "rmse", "mae", "r2", "mape")
RETRIEVAL = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr")
LANGUAGE = ("perplexity", "bits_per_byte", "choice_accuracy", "choice_accuracy_per_byte")
"""The metrics of each task, which are the names of fields of its scores, too."""
LATENCY = ("latency_p50_ms", "latency_p99_ms")
"""Milliseconds the engine takes for one row alone."""
SMALLER_IS_BETTER = frozenset(
    {
        "log_loss",
        "hamming_loss",
        "calibration_error",
        "mse",
        "rmse",
        "mae",
        "mape",
        "perplexity",
        "bits_per_byte",
        *LATENCY,
    }
)
ABOUT: dict[str, str] = {
    "accuracy": "share of the rows answered rightly",
    "balanced_accuracy": "mean recall of the classes that occur: every class counts alike",
    "macro_precision": "mean precision of the classes",
    "macro_recall": "mean recall of the classes that occur or are answered",
    "macro_f1": "mean F1 of the classes",
    "micro_f1": "F1 over all answers together; of one answer a row it equals the accuracy",
    "roc_auc": "mean area under the ROC curves of the classes, each against the others",
    "pr_auc": "mean average precision of the classes",
    "subset_accuracy": "share of the rows of which every label is answered rightly",
    "hamming_loss": "share of all labels of all rows that are answered wrongly",
    "micro_precision": "of several labels: share of those answered that are right",
    "micro_recall": "of several labels: share of those there are that are answered",
    "log_loss": "mean of -ln(probability of the true class)",
    "calibration_error": "mean distance between confidence and accuracy, in 15 bins of equal width",
    "precision": "of a class: share of its answers that are right",
    "recall": "of a class: share of its rows that are found",
    "f1": "of a class: harmonic mean of precision and recall",
    "mse": "mean squared error",
    "rmse": "root of the mean squared error, in the target's unit",
    "mae": "mean absolute error, in the target's unit",
    "r2": "share of the target's variance that is explained",
    "mape": "mean absolute error as a fraction of the true number",
    "recall_at_1": "share of the texts whose nearest neighbour is of their own label",
    "recall_at_5": "share of the texts that have one of their own label among the 5 nearest",
    "recall_at_10": "share of the texts that have one of their own label among the 10 nearest",
    "mrr": "mean of 1 / rank of the first neighbour of the text's own label",
    "perplexity": "how many tokens the model wavers between on average: exp of the mean of -ln(probability of a token)",
    "bits_per_byte": "bits the model needs for a byte of text, whatever its tokens are",
    "choice_accuracy": "share of the questions whose right answer is the most probable one",
    "choice_accuracy_per_byte": "the same by probability per byte, so that long answers are not at a disadvantage",
    "latency_p50_ms": "median time of one row alone, in milliseconds",
    "latency_p99_ms": "99th percentile of the time of one row alone, in milliseconds",
}
"""What each metric says; the documentation's table is made of it."""


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one class is recognised. A score whose denominator is zero is 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # rows that truly belong to the class


@dataclass(frozen=True, slots=True)
class Curve:
    """Points (x, y) of one class, and the area under them."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of about the same confidence, and the share of them that is right."""

    confidence: float
    accuracy: float
    rows: int


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What the probabilities of the answers are worth: ROC and precision-recall of each class, and calibration."""

    roc: tuple[Curve, ...]
    precision_recall: tuple[Curve, ...]
    calibration: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of one set of predictions. ``confusion[i][j]`` counts rows of true class i answered as class j.

    What needs probabilities is None for a model that answers labels alone.
    """

    rows: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]
    balanced_accuracy: float | None = None
    micro_f1: float | None = None
    roc_auc: float | None = None
    pr_auc: float | None = None
    log_loss: float | None = None
    calibration_error: float | None = None
    probabilities: Probabilities | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the confusion matrix."""
        return tuple(entry.label for entry in self.classes)

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        found = {name: getattr(self, name) for name in CLASSIFICATION}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        return f"accuracy {self.accuracy:.4f} on {self.rows:,} rows"


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of rows with any number of labels; ``classes`` are the scores of each label."""

    rows: int
    subset_accuracy: float
    hamming_loss: float
    micro_precision: float
    micro_recall: float
    micro_f1: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    classes: tuple[ClassScores, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(entry.label for entry in self.classes)

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        return {name: getattr(self, name) for name in MULTILABEL}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        return f"micro F1 {self.micro_f1:.4f}, all labels right of {self.subset_accuracy:.2%} of {self.rows:,} rows"


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
class RetrievalScores:
    """How near vectors of texts lie to those of the same label: every row is looked up among ``pool`` others."""

    rows: int
    pool: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr: float

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        return {name: getattr(self, name) for name in RETRIEVAL}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        return f"recall at 10 {self.recall_at_10:.4f} of {self.rows:,} texts among {self.pool:,}"


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """How well a language model foresees ``tokens`` of ``rows`` texts, and which share of its choices is right.

    Without questions to choose answers of there is no choice: None.
    """

    rows: int
    tokens: int
    perplexity: float
    bits_per_byte: float
    choice_accuracy: float | None = None
    choice_accuracy_per_byte: float | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The few numbers that go with a registered version."""
        found = {name: getattr(self, name) for name in LANGUAGE}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def headline(self) -> str:
        """The whole in one phrase."""
        chosen = "" if self.choice_accuracy is None else f", {self.choice_accuracy:.2%} of the answers right"
        return f"perplexity {self.perplexity:.4g} on {self.tokens:,} tokens of {self.rows:,} texts{chosen}"


AnyScores = Scores | LabelScores | RegressionScores | RetrievalScores | LanguageScores


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one row alone, through the engine."""

    p50_ms: float
    p99_ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class Slice:
    """The metrics of the rows that have one value (or lie in one range) in a column."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A row that was answered badly: a wrong class with its probability, or a number far off.

    ``image`` is a PNG in base64 where the data are images; ``values`` are those of its columns where it is a table.
    """

    row: int
    truth: str
    answered: str
    confidence: float
    image: str = ""
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same rows, answered by this model and by a rival.

    ``difference`` is that of the accuracy or of the RMSE, this model minus the rival, with its 95 % interval;
    ``p_value`` (McNemar, exact, or a paired bootstrap) is how likely so large a difference is if both are equally good.
    """

    rival: str
    version: str
    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    only_this_right: int = 0
    only_rival_right: int = 0

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` if chance hardly explains the difference (p < 0.05), else ``equal``."""
        if self.p_value >= SIGNIFICANT:
            return "equal"
        return "worse" if (self.difference < 0) != (self.metric in SMALLER_IS_BETTER) else "better"


SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Report:
    """Scores, what computing them took, and what the gate said (``failures`` is empty if it passed).

    ``intervals`` holds the 95 % bootstrap interval of a metric.
    """

    scores: AnyScores
    seconds: float
    gate: str = ""
    failures: tuple[str, ...] = ()
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    latency: Latency | None = None
    slices: tuple[Slice, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

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
