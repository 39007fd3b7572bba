"""Gates: what a model must reach to be registered, as one line people can read.

::

    gate    = clause {"and" clause}
    clause  = metric op number
    metric  = accuracy | macro_precision | macro_recall | macro_f1 | (precision | recall | f1) "[" class "]"
            | mse | rmse | mae | r2 | mape
    op      = ">=" | ">" | "<=" | "<"

Recipes carry a gate as text; it is parsed before any data is touched, bound to the labels once they are known, and
asked for its failures at the end. It knows nothing of engines or stores.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from mofang.base.domain.errors import InvalidGate
from mofang.make.evaluate.report import CLASSIFICATION, REGRESSION, RegressionScores, Scores

PER_CLASS = ("precision", "recall", "f1")
ALL = (*CLASSIFICATION, *PER_CLASS, *REGRESSION)

_OPERATORS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    ">=": (operator.ge, "<"),
    ">": (operator.gt, "<="),
    "<=": (operator.le, ">"),
    "<": (operator.lt, ">="),
}  # each with the sign that holds when it fails
_CLAUSE = re.compile(
    r"""\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*
        (?:\[\s*(?:"(?P<quoted>[^"]*)"|(?P<plain>[^\]"]*?))\s*\]\s*)?
        (?P<op>>=|<=|>|<)\s*
        (?P<number>[^\s]+)\s*""",
    re.VERBOSE,
)
_AND = re.compile(r"and\b")


@dataclass(frozen=True, slots=True)
class Clause:
    """One condition; ``label`` is empty where the metric is not of one class."""

    metric: str
    label: str
    op: str
    number: float
    shown: str  # the number as it was written

    @property
    def subject(self) -> str:
        """``accuracy`` or ``recall[3]``."""
        return f"{self.metric}[{self.label}]" if self.label else self.metric

    def failure(self, scores: Scores | RegressionScores) -> str:
        """Say why ``scores`` do not satisfy the clause (``accuracy 0.62 < 0.85``); empty if they do."""
        value = self._value(scores)
        holds, opposite = _OPERATORS[self.op]
        if holds(value, self.number):
            return ""
        text = f"{value:.4g}"
        return f"{self.subject} {text if float(text) != self.number else repr(value)} {opposite} {self.shown}"

    def _value(self, scores: Scores | RegressionScores) -> float:
        if not self.label or isinstance(scores, RegressionScores):
            return float(getattr(scores, self.metric))
        return float(getattr(scores.classes[scores.labels.index(self.label)], self.metric))


@dataclass(frozen=True, slots=True)
class Gate:
    """Clauses that must all hold. The empty gate lets everything through."""

    text: str
    clauses: tuple[Clause, ...]

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise InvalidGate if a clause names a class that is not among ``labels`` (none: the target is a number)."""
        for clause in self.clauses:
            if (clause.metric in REGRESSION) == bool(labels):
                what, valid = ("classes", CLASSIFICATION) if labels else ("numbers", REGRESSION)
                raise InvalidGate(
                    f"gate {self.text!r} names metric {clause.metric!r}, but the data's target holds {what}",
                    hint=f"metrics of {what} are {', '.join(valid)}",
                )
            if clause.label and clause.label not in labels:
                raise InvalidGate(
                    f"gate {self.text!r} names class {clause.label!r}, which the data does not have"
                    + _nearest(clause.label, labels),
                    hint=f"the classes are {', '.join(labels[:20])}{', ...' if len(labels) > 20 else ''}",
                )

    def failures(self, scores: Scores | RegressionScores) -> tuple[str, ...]:
        """Return one sentence for each clause that does not hold; raise InvalidGate for an unknown class or metric."""
        self.check_labels(() if isinstance(scores, RegressionScores) else scores.labels)
        return tuple(filter(None, (clause.failure(scores) for clause in self.clauses)))


def parse_gate(text: str) -> Gate:
    """Read a gate; the empty text is the gate that lets everything through. Raises InvalidGate."""
    clauses: list[Clause] = []
    position = 0
    while text[position:].strip():
        found = _CLAUSE.match(text, position)
        if not found:
            raise InvalidGate(f"gate {text!r} cannot be read at {text[position:].strip()!r}")
        clauses.append(_clause(found, text))
        position = found.end()
        if position == len(text):
            break
        joint = _AND.match(text, position)
        if not joint:
            raise InvalidGate(f"gate {text!r} needs `and` before {text[position:]!r}")
        position = joint.end()
        if not text[position:].strip():
            raise InvalidGate(f"gate {text!r} ends with `and`")
    return Gate(text.strip(), tuple(clauses))


def _clause(found: re.Match[str], text: str) -> Clause:
    name = found["name"]
    label = found["quoted"] if found["quoted"] is not None else found["plain"]
    if name not in ALL:
        raise InvalidGate(f"gate {text!r} names metric {name!r}, which does not exist" + _nearest(name))
    if name in PER_CLASS and not label:
        raise InvalidGate(
            f"{name!r} in gate {text!r} is of one class", hint=f"write `{name}[CLASS]`, or `macro_{name}` for the mean"
        )
    if name not in PER_CLASS and label is not None:
        raise InvalidGate(f"{name!r} in gate {text!r} is not of one class", hint=f"write `{name}` without `[{label}]`")
    try:
        number = float(found["number"])
    except ValueError:
        raise InvalidGate(f"{found['number']!r} in gate {text!r} is no number") from None
    if name in REGRESSION and math.isfinite(number):
        return Clause(name, "", found["op"], number, found["number"])
    if name in REGRESSION:
        raise InvalidGate(f"{found['number']!r} in gate {text!r} is no finite number")
    if not 0 <= number <= 1:
        raise InvalidGate(
            f"{found['number']} in gate {text!r} is outside 0 to 1", hint="metrics are fractions: write 0.85 for 85 %"
        )
    return Clause(name, label or "", found["op"], number, found["number"])


def _nearest(word: str, words: Sequence[str] = ALL) -> str:
    by_lower = {known.lower(): known for known in words}
    near = get_close_matches(word.lower(), by_lower, 1, 0.4)
    return f"; the nearest is {by_lower[near[0]]!r}" if near else ""
