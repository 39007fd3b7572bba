"""Gates: what a model must reach to be registered, as one line people can read.

::

    gate    = clause {"and" clause}
    clause  = metric op number | ["not"] ("worse_than" | "better_than") "(" alias or number ")"
    metric  = a metric of classes, of one class: (precision | recall | f1) "[" class "]", of numbers, or a latency
    op      = ">=" | ">" | "<=" | "<"

``not worse_than(champion)`` holds unless the champion answers the same rows better, and chance hardly explains it. A
rival that is not there yet is no hindrance: the first version has none to beat.

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
from mofang.make.evaluate.report import (
    CLASSIFICATION,
    LANGUAGE,
    LATENCY,
    MULTILABEL,
    REGRESSION,
    RETRIEVAL,
    AnyScores,
    Comparison,
    LabelScores,
    LanguageScores,
    Latency,
    RetrievalScores,
    Scores,
)

PER_CLASS = ("precision", "recall", "f1")
UNBOUNDED = (*REGRESSION, *LATENCY, "log_loss", "perplexity", "bits_per_byte")  # every other metric is a fraction
DUELS = ("worse_than", "better_than")
ALL = (*dict.fromkeys((*CLASSIFICATION, *MULTILABEL)), *PER_CLASS, *REGRESSION, *RETRIEVAL, *LANGUAGE, *LATENCY)

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
_DUEL = re.compile(r"\s*(?P<no>not\s+)?(?P<name>[A-Za-z_]+)\s*\(\s*(?P<rival>[^()\s]+)\s*\)\s*")
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

    def failure(self, scores: AnyScores, latency: Latency | None) -> str:
        """Say why ``scores`` do not satisfy the clause (``accuracy 0.62 < 0.85``); empty if they do."""
        value = self._value(scores, latency)
        if value is None:
            return f"{self.subject} cannot be told of this model"
        holds, opposite = _OPERATORS[self.op]
        if holds(value, self.number):
            return ""
        text = f"{value:.4g}"
        return f"{self.subject} {text if float(text) != self.number else repr(value)} {opposite} {self.shown}"

    def _value(self, scores: AnyScores, latency: Latency | None) -> float | None:
        if self.metric in LATENCY:
            return None if latency is None else float(getattr(latency, self.metric.removeprefix("latency_")))
        if not self.label or not isinstance(scores, Scores | LabelScores):
            found = getattr(scores, self.metric)
            return None if found is None else float(found)
        return float(getattr(scores.classes[scores.labels.index(self.label)], self.metric))


@dataclass(frozen=True, slots=True)
class Duel:
    """A condition on the comparison with a rival: an alias of the same model, or a number of a version."""

    word: str  # worse_than | better_than
    rival: str
    negated: bool

    def failure(self, comparisons: Sequence[Comparison]) -> str:
        """Say why the comparison does not satisfy the condition; empty if it does, or if there is no such rival."""
        found = next((each for each in comparisons if each.rival == self.rival), None)
        if found is None or (found.verdict == self.word.removesuffix("_than")) != self.negated:
            return ""
        words = {"better": "better than", "worse": "worse than", "equal": "neither better nor worse than"}
        return (
            f"{words[found.verdict]} {found.rival} ({found.version}): {found.metric} differs by"
            f" {found.difference:+.4g}, p = {found.p_value:.2g}"
        )


@dataclass(frozen=True, slots=True)
class Gate:
    """Clauses that must all hold. The empty gate lets everything through."""

    text: str
    clauses: tuple[Clause, ...]
    duels: tuple[Duel, ...] = ()

    @property
    def rivals(self) -> tuple[str, ...]:
        """The aliases and numbers of versions to compare with."""
        return tuple(dict.fromkeys(duel.rival for duel in self.duels))

    def check_labels(self, labels: Sequence[str], *, several: bool = False) -> None:
        """Raise InvalidGate if a clause names a class that is not among ``labels`` (none: the target is a number).

        ``several``: rows have any number of the labels.
        """
        kinds = {True: ("labels", MULTILABEL), False: ("classes", CLASSIFICATION)}
        what, valid = kinds[several] if labels else ("numbers", REGRESSION)
        for clause in self.clauses:
            if clause.metric in LATENCY:
                continue
            if clause.metric not in (*valid, *(PER_CLASS if labels else ())):
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

    def check_language(self, *, choices: bool) -> None:
        """Raise InvalidGate if a clause is not of language models; without ``choices``, if it is of those."""
        self._check_only("goes on with texts", LANGUAGE)
        if not choices:
            self._check_only("is measured on texts without choices", LANGUAGE[:2])

    def _check_only(self, does: str, metrics: Sequence[str]) -> None:
        strange = [clause.metric for clause in self.clauses if clause.metric not in metrics]
        if strange or self.duels:
            named = f"names metric {strange[0]!r}" if strange else "compares with another version"
            raise InvalidGate(
                f"gate {self.text!r} {named}, but the version {does}", hint=f"its metrics are {', '.join(metrics)}"
            )

    def failures(
        self,
        scores: AnyScores,
        latency: Latency | None = None,
        comparisons: Sequence[Comparison] = (),
    ) -> tuple[str, ...]:
        """Return one sentence for each clause that does not hold; raise InvalidGate for an unknown class or metric."""
        if isinstance(scores, RetrievalScores):
            self._check_only("answers vectors", RETRIEVAL)
        elif isinstance(scores, LanguageScores):
            self.check_language(choices=scores.choice_accuracy is not None)
        else:
            several = isinstance(scores, LabelScores)
            self.check_labels(scores.labels if isinstance(scores, Scores | LabelScores) else (), several=several)
        found = [clause.failure(scores, latency) for clause in self.clauses]
        return tuple(filter(None, [*found, *(duel.failure(comparisons) for duel in self.duels)]))


def parse_gate(text: str) -> Gate:
    """Read a gate; the empty text is the gate that lets everything through. Raises InvalidGate."""
    clauses: list[Clause] = []
    duels: list[Duel] = []
    position = 0
    while text[position:].strip():
        if found := _DUEL.match(text, position):
            duels.append(_duel(found, text))
        elif found := _CLAUSE.match(text, position):
            clauses.append(_clause(found, text))
        else:
            raise InvalidGate(f"gate {text!r} cannot be read at {text[position:].strip()!r}")
        position = found.end()
        if position == len(text):
            break
        joint = _AND.match(text, position)
        if not joint:
            raise InvalidGate(f"gate {text!r} needs `and` before {text[position:]!r}")
        position = joint.end()
        if not text[position:].strip():
            raise InvalidGate(f"gate {text!r} ends with `and`")
    return Gate(text.strip(), tuple(clauses), tuple(duels))


def _duel(found: re.Match[str], text: str) -> Duel:
    if found["name"] not in DUELS:
        raise InvalidGate(
            f"gate {text!r} asks {found['name']!r}, which does not exist" + _nearest(found["name"], DUELS),
            hint="write `not worse_than(champion)` or `better_than(champion)`",
        )
    return Duel(found["name"], found["rival"], found["no"] is not None)


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
    if name in UNBOUNDED and math.isfinite(number):
        return Clause(name, "", found["op"], number, found["number"])
    if name in UNBOUNDED:
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
