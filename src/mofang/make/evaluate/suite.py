"""Evaluate a model through the engine that will serve it: the graph, not the training framework's object.

Called by the pipeline with a held-out split; ``compress`` asks only for the predictions. It must not know how the
model was made, nor where reports are kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import Array, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.evaluate.chance import (
    class_intervals,
    compare_classes,
    compare_numbers,
    label_intervals,
    number_intervals,
)
from mofang.make.evaluate.close import latency, mistakes, slices
from mofang.make.evaluate.gate import Gate
from mofang.make.evaluate.metrics import Indices, Numbers, score, score_labels, score_numbers
from mofang.make.evaluate.report import Comparison, Report
from mofang.make.prepare.dataset import Examples, Schema
from mofang.make.prepare.feed import feed

Rows = Array | Mapping[str, Array]  # numbers [n, d], or inputs by name as `prepare.feed` makes them

BATCH_ROWS = 256
LABEL, LABELS, VALUE = "label", "labels", "value"  # outputs of models made here: of one class, several, a number


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class indices ``[n]``, the seconds they took, and probabilities ``[n, classes]`` if the model tells them."""

    classes: Indices
    seconds: float
    probabilities: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Rival:
    """Another version to compare with: what it is called in the gate, which it is, and its engine with its rows."""

    name: str
    version: str
    engine: Engine
    rows: Rows


@dataclass(frozen=True, slots=True)
class Closer:
    """What to look at besides the scores: the rows as stored, columns to slice by, rivals."""

    examples: Examples
    slices: tuple[str, ...] = ()
    rivals: tuple[Rival, ...] = ()


def evaluate(
    engine: Engine,
    rows: Rows,
    truth: Indices | Numbers,
    labels: tuple[str, ...],
    gate: Gate,
    progress: Progress,
    closer: Closer | None = None,
) -> Report:
    """Ask ``engine`` for every row and compare with ``truth`` ``[n]``, or ``[n, labels]``.

    The truth is class indices into ``labels``, or numbers if there are no labels, or 0 and 1 for each of several.
    Raises InvalidGate if the gate names a class that is not among ``labels`` (before computing anything), and
    InvalidModel if the model's inputs or answers do not fit the data.
    """
    several = truth.ndim == 2
    gate.check_labels(labels, several=several)
    timed = latency(engine, inputs_of(engine, rows))
    if several:
        report = _labels(engine, rows, truth.astype(np.int64), labels, closer, progress)
    elif labels:
        report = _classes(engine, rows, truth.astype(np.int64), labels, closer, progress)
    else:
        report = _numbers(engine, rows, truth.astype(np.float64), closer, progress)
    failures = gate.failures(report.scores, timed, report.comparisons)
    progress.report("evaluate", 1.0, report.scores.headline, **report.scores.metrics)
    return replace(report, latency=timed, gate=gate.text, failures=failures)


def _classes(
    engine: Engine, rows: Rows, truth: Indices, labels: tuple[str, ...], closer: Closer | None, progress: Progress
) -> Report:
    found = predict(engine, rows, labels, progress)
    scores = score(truth, found.classes, labels)
    confidence = np.ones(len(truth))
    if found.probabilities is not None:
        from mofang.make.evaluate.sklearn import with_probabilities

        scores = with_probabilities(scores, truth, found.probabilities)
        confidence = found.probabilities[np.arange(len(truth)), found.classes]
    report = Report(scores, found.seconds, intervals=class_intervals(scores))
    if closer is None:
        return report
    right = found.classes == truth
    comparisons = [
        compare_classes(
            rival.name, rival.version, right, predict(rival.engine, rival.rows, labels, progress).classes == truth
        )
        for rival in closer.rivals
    ]
    return _look_closer(report, closer, truth, found.classes, confidence, comparisons)


def _labels(
    engine: Engine, rows: Rows, truth: Indices, labels: tuple[str, ...], closer: Closer | None, progress: Progress
) -> Report:
    predicted, seconds = predict_labels(engine, rows, labels, progress)
    scores, right = score_labels(truth, predicted, labels), (predicted == truth).all(axis=1)
    report = Report(scores, seconds, intervals=label_intervals(truth, predicted))
    if closer is None:
        return report
    comparisons = [
        compare_classes(
            rival.name, rival.version, right,
            (predict_labels(rival.engine, rival.rows, labels, progress)[0] == truth).all(axis=1), "subset_accuracy",
        )
        for rival in closer.rivals
    ]  # fmt: skip
    return _look_closer(report, closer, truth, predicted, np.ones(len(truth)), comparisons)


def predict_labels(engine: Engine, rows: Rows, labels: tuple[str, ...], progress: Progress) -> tuple[Indices, float]:
    """Return 0 or 1 for each row and label, and the seconds for all; of probabilities alone, 1 over a half."""
    fits = [spec for spec in engine.signature.outputs if spec.shape[1:] == (len(labels),) and spec.datatype != "BYTES"]
    named = [spec for spec in fits if spec.name == LABELS]
    if not fits:
        raise InvalidModel(
            f"the data has {len(labels)} labels, but the model answers {'; '.join(map(str, engine.signature.outputs))}",
            hint=f"such a model has an output {LABELS!r}, or one of probabilities, of shape [n, {len(labels)}]",
        )
    answers, seconds = _answers(engine, inputs_of(engine, rows), (named or fits)[:1], progress)
    return (answers[0].astype(np.float64) > 0.5).astype(np.int64), seconds


def _numbers(engine: Engine, rows: Rows, truth: Numbers, closer: Closer | None, progress: Progress) -> Report:
    predicted, seconds = predict_numbers(engine, rows, progress)
    scores = score_numbers(truth, predicted)
    report = Report(scores, seconds, intervals=number_intervals(scores, truth, predicted))
    if closer is None:
        return report
    comparisons = [
        compare_numbers(
            rival.name, rival.version, truth, predicted, predict_numbers(rival.engine, rival.rows, progress)[0]
        )
        for rival in closer.rivals
    ]
    return _look_closer(report, closer, truth, predicted, np.ones(len(truth)), comparisons)


def _look_closer(
    report: Report,
    closer: Closer,
    truth: Indices | Numbers,
    predicted: Indices | Numbers,
    confidence: Numbers,
    comparisons: list[Comparison],
) -> Report:
    return replace(
        report,
        slices=slices(closer.examples, closer.slices, truth, predicted),
        mistakes=mistakes(closer.examples, truth, predicted, confidence),
        comparisons=tuple(comparisons),
    )


def predict(engine: Engine, rows: Rows, labels: tuple[str, ...], progress: Progress) -> Predictions:
    """Return the class the engine answers for each row, and the probabilities if one of its outputs holds them."""
    inputs = inputs_of(engine, rows)
    output, scores = _output(engine, len(labels)), _scores_output(engine, len(labels))
    wanted = [output] if scores is None or scores is output else [output, scores]
    answers, seconds = _answers(engine, inputs, wanted, progress)
    found = answers[0] if output.name == LABEL else answers[0].argmax(axis=1)
    classes = _indices(found, labels)
    return Predictions(classes, seconds, None if scores is None else _probabilities(answers[-1], classes))


def _scores_output(engine: Engine, classes: int) -> TensorSpec | None:
    """Return the output that has a number for each class, if there is one alone."""
    found = [
        spec
        for spec in engine.signature.outputs
        if len(spec.shape) == 2 and spec.shape[1] == classes and spec.datatype.startswith("FP")
    ]
    return found[0] if len(found) == 1 else None


def _probabilities(scores: Array, classes: Indices) -> Numbers | None:
    """Return ``scores`` as probabilities; None if they are none, or do not go with the answers."""
    values = scores.astype(np.float64)
    sums = values.sum(axis=1)
    fits = np.isfinite(values).all() and values.min(initial=0) >= -1e-6 and np.abs(sums - 1).max(initial=0) < 1e-2
    if not fits or (values.argmax(axis=1) != classes).mean() > 0.01:
        return None
    return np.clip(values, 0, 1)


def predict_numbers(engine: Engine, rows: Rows, progress: Progress) -> tuple[Numbers, float]:
    """Return the number the engine answers for each row, and the seconds for all of them."""
    answers, seconds = _answers(engine, inputs_of(engine, rows), [_number_output(engine)], progress)
    numbers = answers[0].reshape(-1).astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InvalidModel(f"the model answers {numbers[row]} for row {row}, which cannot be scored")
    return numbers, seconds


def _answers(
    engine: Engine, inputs: Mapping[str, Array], outputs: Sequence[TensorSpec], progress: Progress
) -> tuple[list[Array], float]:
    """Return some outputs for all rows, and the seconds the engine needed."""
    total = len(next(iter(inputs.values())))
    rows = BATCH_ROWS if engine.signature.batchable else 1
    answers: list[list[Array]] = [[] for _ in outputs]
    seconds = 0.0
    for start in range(0, total, rows):
        batch = {name: array[start : start + rows] for name, array in inputs.items()}
        begun = time.perf_counter()
        answer = engine.infer(batch)
        seconds += time.perf_counter() - begun
        for parts, spec in zip(answers, outputs, strict=True):
            parts.append(answer[spec.name])
        if start % BATCH_ROWS == 0:
            done = min(start + BATCH_ROWS, total)
            progress.report("evaluate", done / total, f"{done:,} of {total:,} rows")
    return [np.concatenate(parts) for parts in answers], seconds


def inputs_of(engine: Engine, rows: Rows) -> Mapping[str, Array]:
    """Return ``rows`` as the engine's inputs. Raises InvalidModel if numbers do not fit."""
    if isinstance(rows, Mapping):
        return rows
    schema = Schema(rows.shape[1], str(rows.dtype), ())
    return feed(Examples(rows, np.empty(0, np.int64), schema), engine.signature)


def _output(engine: Engine, classes: int) -> TensorSpec:
    """Return the output ``label``, or else the first one with a score for each class."""
    outputs = engine.signature.outputs
    named = [spec for spec in outputs if spec.name == LABEL]
    scores = [
        spec for spec in outputs if len(spec.shape) == 2 and spec.shape[1] == classes and spec.datatype != "BYTES"
    ]
    if not named and not scores:
        raise InvalidModel(
            f"the data has {classes} classes, but the model answers {'; '.join(map(str, outputs))}",
            hint=f"a classifier has an output {LABEL!r}, or one of shape [n, {classes}]",
        )
    return (named or scores)[0]


def _number_output(engine: Engine) -> TensorSpec:
    """Return the output ``value``, or else the only one with one number for each row."""
    outputs = engine.signature.outputs
    single = [
        spec for spec in outputs if spec.datatype.startswith("FP") and spec.shape[1:] in ((), (1,)) and spec.shape
    ]
    named = [spec for spec in single if spec.name == VALUE]
    if not named and len(single) != 1:
        raise InvalidModel(
            f"the data's target is a number, but the model answers {'; '.join(map(str, outputs))}",
            hint=f"a regression has an output {VALUE!r} FP32 [n], or only one of one number for each row",
        )
    return (named or single)[0]


def _indices(answers: Array, labels: tuple[str, ...]) -> Indices:
    """Turn labels into indices: numbers are indices already, unless one of them is none; names are looked up."""
    flat = answers.reshape(-1)
    if flat.dtype.kind in "iu" and (len(flat) == 0 or (flat.min() >= 0 and flat.max() < len(labels))):
        return flat.astype(np.int64)
    index = {label: position for position, label in enumerate(labels)}
    names = [value.decode() if isinstance(value, bytes) else str(value) for value in flat.tolist()]
    unknown = next((name for name in names if name not in index), None)
    if unknown is not None:
        raise InvalidModel(
            f"the model answers class {unknown!r}, which the data does not have",
            hint=f"the data's classes are {', '.join(labels[:20])}",
        )
    return np.array([index[name] for name in names], dtype=np.int64)
