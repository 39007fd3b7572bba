"""Makes up inputs that tell a wrong conversion from a right one, when a model comes without its data.

For tables the places where models bend are what matters: the thresholds of trees, or the range a scaler knows. A
model tells those, and rows are drawn on them, just beside them, between and beyond them. Tensors are drawn at two
sizes of each open dimension. Pure; called by the modules that open models of other frameworks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import NUMPY, Array, TensorSpec
from mofang.make.convert.parity import Trial, missing_values

Places = Sequence[NDArray[np.float64]]
"""For every column, the values where the model bends; none for a column it does not look at."""

_ROWS = 1024
_ROWS_ONE_BY_ONE = 64
_BATCH = 256
_SIZES = (2, 3)  # of open dimensions: more than one, since exporters take one for a constant
_LENGTHS = (8, 13)
_UNSEEN = 1e6
_KINDS, _KINDS_OF_DOUBLES = (0, 1, 2, 3), (2, 3)


def table_trials(places: Places, categories: Sequence[int] = ()) -> list[Trial]:
    """Return the trials of a model that takes one table ``features`` FP32 [n, columns].

    Columns in ``categories`` hold codes: they are drawn whole, and one trial has codes that no training can have seen.
    """
    random = np.random.default_rng(0)
    columns = list(categories)
    single = rows_at(places, random, _ROWS, _KINDS).astype(np.float32)
    # Not on the spot: in double precision, rounding the input itself to single may cross a threshold.
    exact = rows_at(places, random, _ROWS, _KINDS_OF_DOUBLES)
    for rows in (single, exact):
        rows[:, columns] = np.abs(np.round(rows[:, columns]))
    trials = [
        Trial("in batches of 1", {"features": single[:_ROWS_ONE_BY_ONE]}, batch=1),
        Trial(f"in batches of {_BATCH}", {"features": single}, batch=_BATCH),
        Trial(
            "with values born in double precision",
            {"features": exact.astype(np.float32)},
            asked={"features": exact},
        ),
        missing_values(single[:_BATCH]),
    ]
    if categories:
        unseen = single[:_BATCH].copy()
        unseen[:, columns] += np.float32(_UNSEEN)
        trials.append(Trial("with categories never seen", {"features": unseen}, may_refuse=True))
    return trials


def rows_at(places: Places, random: np.random.Generator, rows: int, kinds: Sequence[int]) -> NDArray[np.float64]:
    """Return ``rows`` rows, a column for each of ``places``, drawn as :func:`_column` does."""
    columns = [_column(np.unique(column[np.isfinite(column)]), random, random.choice(kinds, rows)) for column in places]
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))


def _column(known: NDArray[np.float64], random: np.random.Generator, kinds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw one value for each of ``kinds``: on a place, beside it by one float, near it, or anywhere around."""
    rows = len(kinds)
    if not known.size:
        return random.normal(size=rows)
    low, high = float(known[0]), float(known[-1])
    spread = (high - low) or abs(low) or 1.0
    chosen = random.choice(known, rows)
    single = chosen.astype(np.float32)
    beside = np.nextafter(single, np.where(random.random(rows) < 0.5, -np.inf, np.inf).astype(np.float32))
    anywhere = random.uniform(low - 0.5 * spread, high + 0.5 * spread, rows)
    near = chosen + random.normal(scale=0.05 * spread, size=rows)
    return np.select([kinds == 0, kinds == 1, kinds == 2], [single.astype(np.float64), beside, near], anywhere)


def tensor_trials(inputs: Sequence[TensorSpec], most: int = 0) -> list[Trial]:
    """Return the trials of a model of any ``inputs``: two sizes of the batch, and two of every other open dimension.

    Whole numbers are drawn below ``most`` (a vocabulary; 2 if it is not known).
    """
    is_batch = all(spec.shape and spec.shape[0] < 0 for spec in inputs)
    is_open = any(size < 0 for spec in inputs for size in spec.shape[1 if is_batch else 0 :])
    lengths = _LENGTHS if is_open else _LENGTHS[:1]
    trials = []
    for rows in (1, *_SIZES) if is_batch else _SIZES[:1]:
        for length in lengths:
            random = np.random.default_rng(rows * 100 + length)
            drawn = {spec.name: draw(spec, rows if is_batch else length, length, random, most) for spec in inputs}
            size = f"with open dimensions of {length}" if is_open else ""
            batch = f"with a batch of {rows}" if is_batch else ""
            trials.append(Trial(" and ".join(part for part in (batch, size) if part) or "once", drawn))
    return trials


def draw(spec: TensorSpec, rows: int, length: int, random: np.random.Generator, most: int = 0) -> Array:
    """Return a random array that fits ``spec``: ``rows`` along an open first dimension, ``length`` along others."""
    shape = tuple((rows if axis == 0 else length) if size < 0 else size for axis, size in enumerate(spec.shape))
    if spec.datatype.startswith("FP"):
        return random.normal(size=shape).astype(NUMPY[spec.datatype])
    if spec.datatype == "BYTES":
        return np.array([b"%d" % each for each in random.integers(0, 9, int(np.prod(shape)))], np.object_).reshape(
            shape
        )
    return random.integers(0, most or 2, shape).astype(NUMPY[spec.datatype])
