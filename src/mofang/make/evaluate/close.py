"""A closer look: how well groups of rows do, which rows do worst, and how long one row takes.

Called by the suite; what it finds goes into the report.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidRecipe
from mofang.base.domain.tensors import Array
from mofang.base.engines.base import Engine
from mofang.make.evaluate.metrics import score, score_labels, score_numbers
from mofang.make.evaluate.report import Latency, Mistake, Slice
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.encode import strings

_LEAST_ROWS = 10  # of a slice
_MOST_SLICES = 30  # of a column
_RANGES = 4  # of a column of numbers
_MOST_MISTAKES = 12
_CALLS, _SECONDS = 300, 1.5
_MOST_PIXELS = 96 * 96
_LONGEST_VALUE = 80


def slices(
    examples: Examples, columns: Sequence[str], truth: NDArray[Any], predicted: NDArray[Any]
) -> tuple[Slice, ...]:
    """Score the rows of each value of every one of ``columns``; numbers are taken in four ranges of as many rows.

    Raises InvalidRecipe for a column that the data does not have.
    """
    found: list[Slice] = []
    for name in columns:
        values = _values(examples, name)
        kinds, counts = np.unique(values, return_counts=True)
        for kind in sorted(kinds[np.argsort(-counts)][:_MOST_SLICES].tolist()):
            inside = values == kind
            if inside.sum() >= _LEAST_ROWS:
                metrics = _metrics(examples, truth[inside], predicted[inside])
                found.append(Slice(name, kind, int(inside.sum()), metrics))
    return tuple(found)


def mistakes(
    examples: Examples, truth: NDArray[Any], predicted: NDArray[Any], confidence: NDArray[np.float64]
) -> tuple[Mistake, ...]:
    """Return the rows that are furthest off: wrong classes by their ``confidence``, numbers by their distance."""
    labels = examples.schema.labels
    if truth.ndim == 2:
        return _wrong_labels(examples, truth, predicted)
    distance = np.where(predicted != truth, confidence, -1.0) if labels else np.abs(predicted - truth)
    worst = [int(row) for row in np.argsort(-distance, kind="stable")[:_MOST_MISTAKES] if distance[row] > 0]
    return tuple(
        Mistake(
            row,
            labels[int(truth[row])] if labels else f"{truth[row]:.6g}",
            labels[int(predicted[row])] if labels else f"{predicted[row]:.6g}",
            float(confidence[row]) if labels else float(distance[row]),
            _thumbnail(examples, row),
            _shown(examples, row),
        )
        for row in worst
    )


def _wrong_labels(examples: Examples, truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[Mistake, ...]:
    """Return the rows with most labels wrong."""
    wrong = (truth != predicted).sum(axis=1)
    worst = [int(row) for row in np.argsort(-wrong, kind="stable")[:_MOST_MISTAKES] if wrong[row]]
    names = np.array(examples.schema.labels)
    return tuple(
        Mistake(
            row,
            ", ".join(names[truth[row] == 1]) or "none",
            ", ".join(names[predicted[row] == 1]) or "none",
            float(wrong[row]),
            _thumbnail(examples, row),
            _shown(examples, row),
        )
        for row in worst
    )


def latency(engine: Engine, inputs: Mapping[str, Array]) -> Latency:
    """Time single rows, one after the other, for at most a second and a half."""
    total = len(next(iter(inputs.values())))
    rows = [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(min(total, _CALLS))]
    for row in rows[:3]:
        engine.infer(row)
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < _CALLS and time.perf_counter() - begun < _SECONDS:
        start = time.perf_counter()
        engine.infer(rows[len(taken) % len(rows)])
        taken.append((time.perf_counter() - start) * 1e3)
    p50, p99 = np.percentile(taken, [50, 99]).tolist()
    return Latency(p50, p99, len(taken))


def _values(examples: Examples, name: str) -> NDArray[Any]:
    """Return the value or range of column ``name`` for each row, as texts."""
    schema = examples.schema
    if name not in schema.names:
        raise InvalidRecipe(
            f"[evaluate] slices names column {name!r}, which the data does not have",
            hint=f"columns are {', '.join(schema.names[:20]) or 'not named in this data'}",
        )
    index = schema.names.index(name)
    values = np.asarray(examples.features[:, index], np.float64)
    if schema.columns and schema.columns[index].kind in ("category", "date"):
        texts = strings(schema.columns[index], values, examples.texts)
        cut = 10 if schema.columns[index].kind == "date" else _LONGEST_VALUE
        return np.array([text[:cut] or "missing" for text in texts])
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, _RANGES + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    names = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)] or [f"{edges[0]:.6g}"]
    return np.where(np.isnan(values), "missing", np.array(names)[place])


def _metrics(examples: Examples, truth: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    if not examples.schema.labels:
        numbers = score_numbers(truth, predicted)
        return {"rmse": numbers.rmse, "mae": numbers.mae}
    if truth.ndim == 2:
        several = score_labels(truth, predicted, examples.schema.labels)
        return {"subset_accuracy": several.subset_accuracy, "micro_f1": several.micro_f1}
    scores = score(truth, predicted, examples.schema.labels)
    return {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}


def _thumbnail(examples: Examples, row: int) -> str:
    shape = examples.schema.shape
    if not shape or shape[2:] not in ((), (1,), (3,)):
        return ""
    from mofang.base.engines.pillow import png

    image = examples.features[row].reshape(shape)
    step = max(int(np.ceil((shape[0] * shape[1] / _MOST_PIXELS) ** 0.5)), 1)
    image = image[::step, ::step]
    top = image.max(initial=1)
    if top < 32:
        image = image.astype(np.float32) * (255 / top)
    return base64.b64encode(png(image[..., 0] if shape[2:] == (1,) else image)).decode()


def _shown(examples: Examples, row: int) -> dict[str, str]:
    schema = examples.schema
    if schema.shape or not schema.names:
        return {}
    values = np.asarray(examples.features[row], np.float64)
    if not schema.columns:
        return {name: f"{value:.6g}" for name, value in zip(schema.names, values, strict=True)}
    return {
        column.name: f"{value:.6g}"
        if column.kind == "number"
        else strings(column, np.array([value]), examples.texts)[0][:_LONGEST_VALUE]
        for column, value in zip(schema.columns, values, strict=True)
    }
