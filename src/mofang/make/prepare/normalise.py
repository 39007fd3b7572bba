"""The range of the numbers a model sees: measured once on the training rows, applied everywhere.

Training applies a :class:`Scaling` to each batch, the served graph does the same inside (``prepare/onnx.py``): both
subtract and divide in single precision, so that they agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.recipe import Normalise

_CHUNK_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Scaling:
    """``(value - offset) / scale``; one number of each, or one for each channel or column (the last axis)."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``features`` [..., channels], scaled."""
        offset, scale = np.array(self.offset, np.float32), np.array(self.scale, np.float32)
        scaled: NDArray[np.float32] = (features.astype(np.float32) - offset) / scale
        return scaled


def measure(spec: Normalise, features: NDArray[Any]) -> Scaling | None:
    """Return the scaling of training rows ``features`` [n, ...] that ``spec`` asks for; None if it asks for none.

    Images [n, height, width] have one channel, [n, height, width, c] have c; rows [n, d] have d columns. NaN does not
    count. Raises InvalidDataset if the recipe gives numbers for another number of channels.
    """
    if spec.method == "none":
        return None
    channels = 1 if features.ndim == 3 else features.shape[-1]
    if spec.mean:
        if len(spec.mean) not in (1, channels):
            raise InvalidDataset(
                f"[prepare.normalise] gives {len(spec.mean)} means, but the data has {channels} channels or columns"
            )
        return Scaling(spec.mean, spec.deviation)
    if spec.method == "unit":
        low, high = float(np.nanmin(features)), float(np.nanmax(features))
        return Scaling((low,), (high - low or 1.0,))
    mean, deviation = _moments(features.reshape(len(features), -1, channels))
    return Scaling(tuple(mean.tolist()), tuple(np.where(deviation > 0, deviation, 1.0).tolist()))


def _moments(features: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation of each channel of [n, pixels, channels], chunk by chunk in double precision."""
    channels = features.shape[-1]
    count, total, squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    pivot = np.nan_to_num(features[0, 0].astype(np.float64))  # near the values, so that squares keep their digits
    for start in range(0, len(features), _CHUNK_ROWS):
        chunk = features[start : start + _CHUNK_ROWS].astype(np.float64) - pivot
        count += (~np.isnan(chunk)).sum(axis=(0, 1))
        total += np.nansum(chunk, axis=(0, 1))
        squares += np.nansum(chunk**2, axis=(0, 1))
    mean = total / np.maximum(count, 1)
    variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0)
    return (mean + pivot).astype(np.float32), np.sqrt(variance).astype(np.float32)
