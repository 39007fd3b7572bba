"""What a language model is worth on given texts: how well it foresees them, and whether it prefers right answers.

Called by the pipeline for versions of generative engines, with held-out rows of a dataset of texts. Nothing is
generated: the engine says how likely the very tokens are. Where the classes of a dataset are named like columns of
texts, each row is a question with an answer in each of those columns, and its class names the right one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset, InvalidModel, PromptTooLong
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Conversational, GenerativeEngine, Scoring
from mofang.make.evaluate.gate import Gate
from mofang.make.evaluate.report import Comparison, LanguageScores, Mistake, Report
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.encode import strings
from mofang.make.prepare.passages import are_passages
from mofang.make.prepare.tokens import Passage, Reader

_MOST_ROWS = 500
_MOST_TOKENS = 512  # of a prompt and its completion: what training reads, if its recipe does not say otherwise
_AT_ONCE = 8  # texts handed to the engine together
_RESAMPLES = 1_000
_MOST_MISTAKES = 12
_LONGEST_SHOWN = 200
_SEED = 0

Floats = NDArray[np.float64]
Encoding = GenerativeEngine | Scoring


@dataclass(frozen=True, slots=True)
class Text:
    """A text in tokens; the first ``given`` of them, one at least, are not asked for."""

    tokens: Sequence[int]
    given: int
    size_bytes: int  # of what is asked for


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """Of each text: the natural logarithm of its probability, how many tokens that is of, and its bytes; all [n]."""

    log: Floats
    tokens: Floats
    size_bytes: Floats

    def some(self, rows: NDArray[np.int64]) -> Likelihood:
        """Return that of some texts."""
        return Likelihood(self.log[rows], self.tokens[rows], self.size_bytes[rows])

    @property
    def perplexity(self) -> float:
        """See the metric."""
        return math.exp(min(-self.log.sum() / self.tokens.sum(), 700.0))

    @property
    def bits_per_byte(self) -> float:
        """See the metric."""
        return float(-self.log.sum() / math.log(2) / self.size_bytes.sum())


def evaluate_language(
    engine: GenerativeEngine | Conversational, test: Examples, gate: Gate, progress: Progress, name: str
) -> Report:
    """Score held-out texts, and choices if the data has any; ``name`` is the engine's.

    Raises InvalidModel if the engine cannot tell how likely a given text is, InvalidDataset for data without texts,
    InvalidGate for a gate on something else.
    """
    if not isinstance(engine, Scoring):
        raise InvalidModel(
            f"engine {name!r} does not tell how likely a given text is",
            hint="register the same file for the engine that does: `mofang push NAME FILE --engine openvino`",
        )
    if are_passages(test.schema.columns):
        return evaluate_passages(engine, _passages(engine, test), gate, progress)[0]
    choices = _choices(test)
    gate.check_language(choices=bool(choices))
    begun = time.perf_counter()
    rows = _some(test)
    questions, answers = _asked(test, choices, rows)
    if choices:
        report = _chosen(engine, questions, answers, test, rows, progress)
    else:
        told = likelihood(engine, [whole(engine, text) for text in questions], progress)
        report = _report(told, len(rows))
    progress.report("evaluate", 1.0, report.scores.headline, **report.metrics)
    failures = gate.failures(report.scores)
    return Report(
        report.scores, time.perf_counter() - begun, gate.text, failures, report.intervals, mistakes=report.mistakes
    )


def texts_of(engine: Encoding, test: Examples) -> list[Text]:
    """Return what of held-out rows a language model is to foresee; of questions the right answers.

    Raises InvalidDataset for data without texts.
    """
    if are_passages(test.schema.columns):
        passages = _passages(engine, test)
        return [_completion(passages[row]) for row in _drawn(len(passages)).tolist()]
    rows, choices = _some(test), _choices(test)
    questions, answers = _asked(test, choices, rows)
    if not choices:
        return [whole(engine, text) for text in questions]
    truth = test.target[rows].astype(np.int64)
    return [_answer(engine, question, answers[truth[row]][row]) for row, question in enumerate(questions)]


def evaluate_passages(
    engine: Scoring, passages: Sequence[Passage], gate: Gate, progress: Progress, base: Base | None = None
) -> tuple[Report, Likelihood]:
    """Score the completions of ``passages``, each given its prompt, and compare with the model it was made from.

    Raises InvalidDataset if there is nothing to score, InvalidGate for a gate on something else.
    """
    gate.check_language(choices=False)
    begun = time.perf_counter()
    texts = [_completion(passages[row]) for row in _drawn(len(passages)).tolist()]
    told = likelihood(engine, texts, progress)
    report = _report(told, len(texts))
    compared = () if base is None else (_compared(base, told),)
    said = f"{report.scores.headline}{'' if base is None else f'; {base.version} has {base.told.perplexity:.4g}'}"
    progress.report("evaluate", 1.0, said, **report.metrics)
    failures = gate.failures(report.scores)
    seconds = time.perf_counter() - begun
    return Report(report.scores, seconds, gate.text, failures, report.intervals, comparisons=compared), told


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """The version that another was made from, and how likely it found the same texts."""

    version: str
    told: Likelihood


def _compared(base: Base, told: Likelihood) -> Comparison:
    """Compare on the same texts, by a paired bootstrap over them."""
    random, rows = np.random.default_rng(_SEED), len(told.log)
    draws = [random.integers(0, rows, rows) for _ in range(_RESAMPLES)]
    found = np.array([told.some(some).perplexity - base.told.some(some).perplexity for some in draws])
    low, high = np.percentile(found, [2.5, 97.5]).tolist()
    chance = float(min((found <= 0).mean(), (found >= 0).mean())) * 2
    difference = told.perplexity - base.told.perplexity
    p_value = min(max(chance, 1 / _RESAMPLES), 1.0)
    return Comparison("base", base.version, "perplexity", difference, low, high, p_value)


def _chosen(
    engine: Scoring, questions: list[str], answers: list[list[str]], test: Examples, rows: NDArray[np.int64],
    progress: Progress,
) -> Report:  # fmt: skip
    """Ask for every answer [choices][n] after its question; the right one of each row tells the perplexity as well."""
    asked = [_answer(engine, question, each[row]) for row, question in enumerate(questions) for each in answers]
    told = likelihood(engine, asked, progress)
    logs = told.log.reshape(len(rows), len(answers))
    truth = test.target[rows].astype(np.int64)
    right = logs.argmax(axis=1) == truth
    per_byte = (logs / told.size_bytes.reshape(logs.shape)).argmax(axis=1) == truth
    correct = told.some(np.arange(len(rows)) * len(answers) + truth)
    accuracy = float(right.mean()), float(per_byte.mean())
    report = _report(correct, len(rows), *accuracy)
    return Report(
        report.scores, 0.0, intervals={**report.intervals, "choice_accuracy": _interval(lambda some: float(
            right[some].mean()), len(rows))}, mistakes=_mistakes(questions, answers, logs, truth, rows),
    )  # fmt: skip


def _report(told: Likelihood, rows: int, *accuracy: float) -> Report:
    if not told.tokens.sum():
        raise InvalidDataset("the held-out texts have no two tokens: there is nothing to foresee")
    scores = LanguageScores(rows, int(told.tokens.sum()), told.perplexity, told.bits_per_byte, *accuracy)
    between = _interval(lambda some: told.some(some).perplexity, len(told.log))
    return Report(scores, 0.0, intervals={"perplexity": between})


def _interval(measure: Callable[[NDArray[np.int64]], float], rows: int) -> tuple[float, float]:
    """Return the 95 % interval of what ``measure`` says of rows, by the bootstrap."""
    random = np.random.default_rng(_SEED)
    found = [measure(random.integers(0, rows, rows)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(found, [2.5, 97.5]).tolist()
    return low, high


def likelihood(engine: Scoring, texts: Sequence[Text], progress: Progress) -> Likelihood:
    """Ask how likely ``texts`` are, a few at a time."""
    logs: list[float] = []
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        found = engine.score([text.tokens for text in part])
        logs += [math.fsum(each[text.given - 1 :]) for text, each in zip(part, found, strict=True)]
        done = min(start + _AT_ONCE, len(texts))
        progress.report("evaluate", done / len(texts), f"{done:,} of {len(texts):,} texts")
    tokens = [float(len(text.tokens) - text.given) for text in texts]
    return Likelihood(np.array(logs), np.array(tokens), np.array([float(text.size_bytes) for text in texts]))


def whole(engine: Encoding, text: str) -> Text:
    """Return ``text`` in tokens, all but the first asked for; what is longer than the context is cut."""
    while True:
        try:
            return Text(engine.encode(text, opening=True), 1, max(len(text.encode()), 1))
        except PromptTooLong:
            text = text[: len(text) * 3 // 4]


def _answer(engine: Encoding, question: str, answer: str) -> Text:
    """Return question and answer in tokens, those of the answer asked for."""
    between = "" if not question or question[-1].isspace() else " "
    try:
        known = engine.encode(question, opening=True)
        tokens = engine.encode(f"{question}{between}{answer}", opening=True)
    except PromptTooLong as error:
        raise InvalidDataset(f"question {question[:60]!r} and an answer are longer than the model's context") from error
    same = next((at for at, pair in enumerate(zip(known, tokens, strict=False)) if pair[0] != pair[1]), len(known))
    return Text(tokens, min(max(same, 1), len(tokens) - 1), max(len(answer.encode()), 1))


def _passages(engine: Encoding, test: Examples) -> list[Passage]:
    return [each for each in Reader(engine, _MOST_TOKENS).passages(test) if each]  # type: ignore[arg-type]


def _completion(passage: Passage) -> Text:
    return Text(passage.tokens, max(passage.start, 1), max(passage.completion_bytes, 1))


def _asked(test: Examples, choices: Sequence[int], rows: NDArray[np.int64]) -> tuple[list[str], list[list[str]]]:
    """Return the questions of some rows, and the answers of each class to them."""
    return _read(test, _text_column(test, choices), rows), [_read(test, each, rows) for each in choices]


def _choices(test: Examples) -> list[int]:
    """Return the columns that hold the answers of each class; none if the classes are no columns."""
    labels, names = test.schema.labels, [column.name for column in test.schema.columns]
    return [names.index(label) for label in labels] if labels and set(labels) <= set(names) else []


def _text_column(test: Examples, choices: Sequence[int]) -> int:
    kinds = ("text", "category") if choices else ("text",)
    found = [i for i, column in enumerate(test.schema.columns) if column.kind in kinds and i not in choices]
    if len(found) != 1:
        wanted = "one column of questions beside the answers" if choices else "one column of texts"
        raise InvalidDataset(
            f"a language model is measured on {wanted}; this data has {len(found)}",
            hint="name a dataset of texts: `--dataset DIGEST`; [prepare.columns] says which column is text, or dropped",
        )
    return found[0]


def _read(test: Examples, column: int, rows: NDArray[np.int64]) -> list[str]:
    return strings(test.schema.columns[column], np.asarray(test.features[rows, column]), test.texts)


def _some(test: Examples) -> NDArray[np.int64]:
    return _drawn(len(test.target))


def _drawn(count: int) -> NDArray[np.int64]:
    if count <= _MOST_ROWS:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, _MOST_ROWS, replace=False))


def _mistakes(
    questions: list[str], answers: list[list[str]], logs: Floats, truth: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[Mistake, ...]:
    """Return the questions that were answered most surely and wrongly."""
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    said = logs.argmax(axis=1)
    sure = np.where(said != truth, shares.max(axis=1), -1.0)
    worst = [int(at) for at in np.argsort(-sure, kind="stable")[:_MOST_MISTAKES] if sure[at] > 0]
    return tuple(
        Mistake(int(rows[at]), answers[truth[at]][at][:_LONGEST_SHOWN], answers[said[at]][at][:_LONGEST_SHOWN],
                float(sure[at]), values={"question": questions[at][:_LONGEST_SHOWN]})
        for at in worst
    )  # fmt: skip
