"""The parity proof: does the converted model answer as its source does?

Conversions can be silently wrong, so none is trusted. Called with the answers of the source on one side and an engine
on the other; it knows neither framework. What is tried is a list of trials: other sizes of batches, missing values,
values that were born in double precision, categories nobody has seen, other lengths of sequences (``probes.py`` makes
them up).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ParityFailed
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress

Features = NDArray[np.float32]
Infer = Callable[[Mapping[str, Array]], dict[str, Array]]
Source = Callable[[Features], dict[str, Array]]
Ask = Callable[[Any], Mapping[str, Array]]

LABEL, PROBABILITIES, VALUE = "label", "probabilities", "value"  # what regressions and classifiers made here answer
MISSING = "with missing values (NaN)"
_ROWS_WITH_NAN = 256
_SHARE_OF_NAN = 0.3


@dataclass(frozen=True, slots=True)
class ParityProof:
    """What was compared and how it came out.

    ``compared``: classes, which must all be equal, or numbers, whose largest difference is in standard deviations of
    the answers. ``missing``: rows with NaN are answered alike ("equal"), or the source itself refuses them ("refused").
    ``trials``: what else was tried, in words.
    """

    rows: int
    labels_equal: int  # of rows; of numbers, those within the tolerance
    max_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]
    missing: Literal["equal", "refused", "untried"]
    passed: bool = True
    compared: Literal["labels", "values"] = "labels"
    trials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One question both sides are asked: ``inputs`` for the engine, ``asked`` for the source if it takes another form.

    ``where`` completes "the converted model answers differently ...". With ``batch`` the engine gets so many rows at a
    time. A source that ``may_refuse`` does so with a ValueError; then there is nothing to compare.
    """

    where: str
    inputs: Mapping[str, Array]
    asked: Any = None
    batch: int = 0
    may_refuse: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What trials came to: those that were answered alike, those the source refused, and the largest difference."""

    alike: tuple[str, ...]
    refused: tuple[str, ...]
    max_difference: float


def compare(
    source: Ask, infer: Infer, trials: Sequence[Trial], progress: Progress, *, tolerance: float = 1e-4
) -> Outcome:
    """Ask both sides every trial; every label must be equal, no number further off than ``tolerance``.

    Probabilities are compared as they are; the unit of ``value`` is the standard deviation of all values of the
    trial, of other numbers the largest of them, if that is over 1. Raises ParityFailed, which tells how many rows
    differ, by how much, and the first of them with its input.
    """
    alike, refused, worst = [], [], 0.0
    for step, trial in enumerate(trials):
        rows = len(next(iter(trial.inputs.values())))
        progress.report("convert", step / len(trials), f"comparing {rows} rows {trial.where}")
        try:
            expected = source(trial.inputs if trial.asked is None else trial.asked)
        except ValueError:  # how scikit-learn says that it takes no NaN
            if not trial.may_refuse:
                raise
            refused.append(trial.where)
            continue
        found = _in_batches(infer, trial.inputs, trial.batch or rows)
        worst = max(worst, _compare(expected, found, tolerance, trial))
        alike.append(trial.where)
    return Outcome(tuple(alike), tuple(refused), worst)


def prove(
    source: Source,
    infer: Infer,
    features: Features,
    progress: Progress,
    *,
    tolerance: float = 1e-4,
    batch_sizes: tuple[int, ...] = (1, 256),
) -> ParityProof:
    """Compare ``infer`` (an Engine's) with ``source`` (``reference`` of the pipeline) on all of ``features`` [rows, n].

    Every label must be equal and no probability further off than ``tolerance``, at every batch size; a ``value`` may be
    off by ``tolerance`` times the standard deviation of all values. Rows with NaN must be answered alike too, unless
    the source refuses them with a ValueError. Raises ParityFailed, as :func:`compare` does.
    """
    expected = source(features)
    trials = [Trial(f"in batches of {size}", {"features": features}, batch=size) for size in batch_sizes]
    outcome = compare(lambda _: expected, infer, trials, progress, tolerance=tolerance)
    with_nan = missing_values(features[:_ROWS_WITH_NAN])
    beside = compare(lambda asked: source(asked["features"]), infer, [with_nan], progress, tolerance=tolerance)
    compared: Literal["labels", "values"] = "values" if VALUE in expected else "labels"
    worst = outcome.max_difference
    progress.report("convert", 1.0, f"all {compared} equal, largest difference {worst:.1e}", max_difference=worst)
    rows, missing = len(features), "refused" if beside.refused else "equal"
    return ParityProof(rows, rows, worst, tolerance, batch_sizes, missing, compared=compared)  # type: ignore[arg-type]


def missing_values(rows: Features) -> Trial:
    """Return the trial of ``rows`` with three values of ten missing."""
    random = np.random.default_rng(0)
    rows = rows.copy()
    rows[random.random(rows.shape) < _SHARE_OF_NAN] = np.nan
    return Trial(MISSING, {"features": rows}, may_refuse=True)


def _in_batches(infer: Infer, inputs: Mapping[str, Array], size: int) -> dict[str, Array]:
    rows = len(next(iter(inputs.values())))

    def answers() -> Iterator[dict[str, Array]]:
        for start in range(0, rows, size):
            yield infer({name: array[start : start + size] for name, array in inputs.items()})

    parts = list(answers())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _unit(name: str, values: Array) -> float:
    """Return what differences are measured in: a shift matters little beside how far the answers themselves vary."""
    known = values.astype(np.float64)[np.isfinite(values)]
    largest = float(np.abs(known).max(initial=0.0))
    if name == VALUE:
        return float(known.std() if known.size else 0.0) or largest or 1.0
    return 1.0 if name == PROBABILITIES else max(1.0, largest)


def _compare(expected: Mapping[str, Array], found: Mapping[str, Array], tolerance: float, trial: Trial) -> float:
    """Return the largest difference of a number; raise ParityFailed if one is too large, or a label differs."""
    if expected.keys() != found.keys() or any(expected[name].shape != found[name].shape for name in expected):
        raise ParityFailed(
            f"the converted model has other outputs {trial.where}: {_shapes(found)}, not {_shapes(expected)}"
        )
    worst = 0.0
    for name, ours in expected.items():
        theirs = found[name]
        if ours.dtype.kind == "f":
            difference = _apart(ours, theirs) / _unit(name, ours)
            wrong = ~(difference <= tolerance)
            worst = max(worst, float(difference.max(initial=0.0)))
        else:
            difference = None
            wrong = (ours != theirs).reshape(len(ours), -1).any(axis=1)
        if wrong.any():
            raise _differs(name, (ours, theirs), wrong, difference, trial)
    return worst


def _apart(ours: Array, theirs: Array) -> NDArray[np.float64]:
    """Return by how much each row differs; a NaN on one side alone, or another infinity, is infinitely far."""
    first, second = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.where((first == second) | (np.isnan(first) & np.isnan(second)), 0.0, np.abs(first - second))
    worst: NDArray[np.float64] = np.nan_to_num(apart, nan=np.inf).reshape(len(ours), -1).max(axis=1, initial=0.0)
    return worst


def _differs(
    name: str, sides: tuple[Array, Array], wrong: NDArray[np.bool_], difference: Array | None, trial: Trial
) -> ParityFailed:
    row = int(np.flatnonzero(wrong)[0] if difference is None else np.argmax(difference))
    by = "" if difference is None else f", off by {difference[row]:.2g}"
    given = ", ".join(f"{each}: {_short(array[row])}" for each, array in trial.inputs.items())
    return ParityFailed(
        f"the converted model answers {wrong.sum()} of {len(wrong)} rows differently {trial.where}: {name} of row {row}"
        f" is {_short(sides[1][row])}, the source says {_short(sides[0][row])}{by} (for {given})"
    )


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())


def _short(value: object) -> str:
    text = np.array2string(np.asarray(value), precision=4, threshold=8, edgeitems=3, separator=", ")
    return " ".join(text.split())
