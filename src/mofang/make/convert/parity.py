"""The parity proof: does the converted model answer as its source does?

Conversions can be silently wrong, so none is trusted. Called by the pipeline with the answers of the source on one side
and an engine on the other; it knows neither framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ParityFailed
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress

Features = NDArray[np.float32]
Infer = Callable[[Mapping[str, Array]], dict[str, Array]]
Source = Callable[[Features], dict[str, Array]]

VALUE = "value"  # the output regressions made here have
_ROWS_WITH_NAN = 256
_SHARE_OF_NAN = 0.3


@dataclass(frozen=True, slots=True)
class ParityProof:
    """What was compared and how it came out.

    ``compared``: classes, which must all be equal, or numbers, whose largest difference is in standard deviations of
    the answers. ``missing``: rows with NaN are answered alike ("equal"), or the source itself refuses them ("refused").
    """

    rows: int
    labels_equal: int  # of rows; of numbers, those within the tolerance
    max_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]
    missing: Literal["equal", "refused"]
    passed: bool = True
    compared: Literal["labels", "values"] = "labels"


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
    the source refuses them with a ValueError. Raises ParityFailed, which tells how many rows differ and the first.
    """
    expected = source(features)
    compared: Literal["labels", "values"] = "values" if VALUE in expected else "labels"
    spread = _spread(expected[VALUE]) if VALUE in expected else 1.0
    worst = 0.0
    for step, size in enumerate(batch_sizes):
        progress.report(
            "convert", (step + 1) / (len(batch_sizes) + 2), f"comparing {len(features)} rows, {size} at a time"
        )
        found = _in_batches(infer, features, size)
        worst = max(worst, _compare(expected, found, (tolerance, spread), f"in batches of {size}"))
    missing = _compare_missing(source, infer, features, (tolerance, spread))
    progress.report("convert", 1.0, f"all {compared} equal, largest difference {worst:.1e}", max_difference=worst)
    rows = len(features)
    return ParityProof(rows, rows, worst, tolerance, batch_sizes, missing, compared=compared)


def _in_batches(infer: Infer, features: Features, size: int) -> dict[str, Array]:
    def answers() -> Iterator[dict[str, Array]]:
        for start in range(0, len(features), size):
            yield infer({"features": features[start : start + size]})

    parts = list(answers())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _spread(values: Array) -> float:
    """Return the unit to measure differences in: a shift matters little beside how far the answers themselves vary."""
    return float(values.astype(np.float64).std()) or float(np.abs(values).max(initial=0.0)) or 1.0


def _compare(
    expected: Mapping[str, Array], found: Mapping[str, Array], allowed: tuple[float, float], where: str
) -> float:
    """Return the largest difference of a number; raise ParityFailed if one is too large, or a label differs."""
    if expected.keys() != found.keys() or any(expected[name].shape != found[name].shape for name in expected):
        raise ParityFailed(f"the converted model has other outputs {where}: {_shapes(found)}, not {_shapes(expected)}")
    worst, (tolerance, unit) = 0.0, allowed
    for name, ours in expected.items():
        theirs = found[name]
        if ours.dtype.kind == "f":
            apart = np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) / unit
            difference = apart.reshape(len(ours), -1).max(axis=1)
            wrong = ~(difference <= tolerance)  # NaN is wrong as well
            worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
        else:
            wrong = ours != theirs
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise ParityFailed(
                f"the converted model answers {wrong.sum()} of {len(wrong)} rows differently {where}: "
                f"{name} of row {row} is {_short(theirs[row])}, the source says {_short(ours[row])}"
            )
    return worst


def _compare_missing(
    source: Source, infer: Infer, features: Features, allowed: tuple[float, float]
) -> Literal["equal", "refused"]:
    random = np.random.default_rng(0)
    rows = features[:_ROWS_WITH_NAN].copy()
    rows[random.random(rows.shape) < _SHARE_OF_NAN] = np.nan
    try:
        expected = source(rows)
    except ValueError:  # how scikit-learn says that it takes no NaN
        return "refused"
    _compare(expected, infer({"features": rows}), allowed, "with missing values (NaN)")
    return "equal"


def _shapes(outputs: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())


def _short(value: object) -> str:
    return np.array2string(np.asarray(value), precision=4, threshold=8, edgeitems=3, separator=", ")
