"""Evaluate a model through the engine that will serve it: the graph, not the training framework's object.

Called by the pipeline with a held-out split; ``compress`` asks only for the predictions. It must not know how the
model was made, nor where reports are kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import NUMPY, Array, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.evaluate.gate import Gate
from mofang.make.evaluate.metrics import Indices, Numbers, score, score_numbers
from mofang.make.evaluate.report import RegressionScores, Report, Scores

BATCH_ROWS = 256
LABEL, VALUE = "label", "value"  # the outputs classifiers and regressions made here have


@dataclass(frozen=True, slots=True)
class Predictions:
    """Class indices ``[n]``, and the seconds the engine needed for all of them."""

    classes: Indices
    seconds: float


def evaluate(
    engine: Engine, features: Array, truth: Indices | Numbers, labels: tuple[str, ...], gate: Gate, progress: Progress
) -> Report:
    """Ask ``engine`` for every row of ``features`` ``[n, d]`` and compare with ``truth`` ``[n]``.

    The truth is class indices into ``labels``, or numbers if there are no labels. Raises InvalidGate if the gate names
    a class that is not among ``labels`` (before computing anything), and
    InvalidModel if the model's inputs or answers do not fit the data.
    """
    gate.check_labels(labels)
    scores: Scores | RegressionScores
    if labels:
        predictions = predict(engine, features, labels, progress)
        scores, seconds = score(truth.astype(np.int64), predictions.classes, labels), predictions.seconds
    else:
        numbers, seconds = predict_numbers(engine, features, progress)
        scores = score_numbers(truth.astype(np.float64), numbers)
    failures = gate.failures(scores)
    progress.report("evaluate", 1.0, scores.headline, **scores.metrics)
    return Report(scores, seconds, gate.text, failures)


def predict(engine: Engine, features: Array, labels: tuple[str, ...], progress: Progress) -> Predictions:
    """Return the class the engine answers for each row of ``features`` ``[n, d]``."""
    fitted = fit_rows(engine, features)
    output = _output(engine, len(labels))
    answers, seconds = _answers(engine, fitted, output, progress)
    return Predictions(_indices(answers if output.name == LABEL else answers.argmax(axis=1), labels), seconds)


def predict_numbers(engine: Engine, features: Array, progress: Progress) -> tuple[Numbers, float]:
    """Return the number the engine answers for each row of ``features`` ``[n, d]``, and the seconds for all of them."""
    fitted = fit_rows(engine, features)
    answers, seconds = _answers(engine, fitted, _number_output(engine), progress)
    numbers = answers.reshape(-1).astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InvalidModel(f"the model answers {numbers[row]} for row {row}, which cannot be scored")
    return numbers, seconds


def _answers(engine: Engine, fitted: tuple[str, Array], output: TensorSpec, progress: Progress) -> tuple[Array, float]:
    """Return one output for all rows, and the seconds the engine needed."""
    name, prepared = fitted
    rows = BATCH_ROWS if engine.signature.batchable else 1
    answers: list[Array] = []
    seconds = 0.0
    for start in range(0, len(prepared), rows):
        begun = time.perf_counter()
        answer = engine.infer({name: prepared[start : start + rows]})[output.name]
        seconds += time.perf_counter() - begun
        answers.append(answer)
        if start % BATCH_ROWS == 0:
            done = min(start + BATCH_ROWS, len(prepared))
            progress.report("evaluate", done / len(prepared), f"{done:,} of {len(prepared):,} rows")
    return np.concatenate(answers), seconds


def fit_rows(engine: Engine, features: Array) -> tuple[str, Array]:
    """Return the name of the engine's one input, and ``features`` ``[n, d]`` in its datatype and shape."""
    spec = _input(engine, features.shape[1])
    inner = spec.shape[1:] if spec.shape[1:] != (-1,) else features.shape[1:]
    return spec.name, np.ascontiguousarray(features, dtype=NUMPY[spec.datatype]).reshape(-1, *inner)


def _input(engine: Engine, width: int) -> TensorSpec:
    """Return the one input, if rows of ``width`` numbers fit it."""
    inputs = engine.signature.inputs
    spec = inputs[0]
    rest = spec.shape[1:]
    fits = rest == (-1,) or (all(dim >= 0 for dim in rest) and int(np.prod(rest)) == width)
    if len(inputs) > 1 or spec.datatype == "BYTES" or not spec.shape or spec.shape[0] not in (-1, 1) or not fits:
        raise InvalidModel(
            f"the data has rows of {width} numbers, but the model takes {'; '.join(map(str, inputs))}",
            hint="evaluate it on a dataset it was made for: `--dataset DIGEST`",
        )
    return spec


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
