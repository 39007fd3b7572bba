"""Evaluate a model through the engine that will serve it: the graph, not the training framework's object.

Called by the pipeline with a held-out split; ``compress`` asks only for the predictions. It must not know how the
model was made, nor where reports are kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import Array, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.evaluate.gate import Gate
from mofang.make.evaluate.metrics import Indices, Numbers, score, score_numbers
from mofang.make.evaluate.report import RegressionScores, Report, Scores
from mofang.make.prepare.dataset import Examples, Schema
from mofang.make.prepare.feed import feed

Rows = Array | Mapping[str, Array]  # numbers [n, d], or inputs by name as `prepare.feed` makes them

BATCH_ROWS = 256
LABEL, VALUE = "label", "value"  # the outputs classifiers and regressions made here have


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class indices ``[n]``, and the seconds the engine needed for all of them."""

    classes: Indices
    seconds: float


def evaluate(
    engine: Engine, rows: Rows, truth: Indices | Numbers, labels: tuple[str, ...], gate: Gate, progress: Progress
) -> Report:
    """Ask ``engine`` for every row and compare with ``truth`` ``[n]``.

    The truth is class indices into ``labels``, or numbers if there are no labels. Raises InvalidGate if the gate names
    a class that is not among ``labels`` (before computing anything), and
    InvalidModel if the model's inputs or answers do not fit the data.
    """
    gate.check_labels(labels)
    scores: Scores | RegressionScores
    if labels:
        predictions = predict(engine, rows, labels, progress)
        scores, seconds = score(truth.astype(np.int64), predictions.classes, labels), predictions.seconds
    else:
        numbers, seconds = predict_numbers(engine, rows, progress)
        scores = score_numbers(truth.astype(np.float64), numbers)
    failures = gate.failures(scores)
    progress.report("evaluate", 1.0, scores.headline, **scores.metrics)
    return Report(scores, seconds, gate.text, failures)


def predict(engine: Engine, rows: Rows, labels: tuple[str, ...], progress: Progress) -> Predictions:
    """Return the class the engine answers for each row."""
    fitted = inputs_of(engine, rows)
    output = _output(engine, len(labels))
    answers, seconds = _answers(engine, fitted, output, progress)
    return Predictions(_indices(answers if output.name == LABEL else answers.argmax(axis=1), labels), seconds)


def predict_numbers(engine: Engine, rows: Rows, progress: Progress) -> tuple[Numbers, float]:
    """Return the number the engine answers for each row, and the seconds for all of them."""
    fitted = inputs_of(engine, rows)
    answers, seconds = _answers(engine, fitted, _number_output(engine), progress)
    numbers = answers.reshape(-1).astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InvalidModel(f"the model answers {numbers[row]} for row {row}, which cannot be scored")
    return numbers, seconds


def _answers(
    engine: Engine, inputs: Mapping[str, Array], output: TensorSpec, progress: Progress
) -> tuple[Array, float]:
    """Return one output for all rows, and the seconds the engine needed."""
    total = len(next(iter(inputs.values())))
    rows = BATCH_ROWS if engine.signature.batchable else 1
    answers: list[Array] = []
    seconds = 0.0
    for start in range(0, total, rows):
        batch = {name: array[start : start + rows] for name, array in inputs.items()}
        begun = time.perf_counter()
        answer = engine.infer(batch)[output.name]
        seconds += time.perf_counter() - begun
        answers.append(answer)
        if start % BATCH_ROWS == 0:
            done = min(start + BATCH_ROWS, total)
            progress.report("evaluate", done / total, f"{done:,} of {total:,} rows")
    return np.concatenate(answers), seconds


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
