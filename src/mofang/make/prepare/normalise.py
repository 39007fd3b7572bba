"""The range of the numbers a model sees: measured once on the training rows, applied everywhere.

Training applies a :class:`Scaling` to each batch, the served graph does the same inside (``prepare/onnx.py``): both
fill in, subtract and divide in single precision, so that they agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.make.recipe import Normalise

Chunks = Callable[[], Iterable[NDArray[Any]]]  # of training rows [n, pixels, channels], to be read more than once
_MEDIAN_ROWS = 200_000  # at most, for a median


@dataclass(frozen=True, slots=True)
class Scaling:
    """``(value - offset) / scale``; one number of each, or one for each channel or column (the last axis).

    Where ``fill`` is not empty it stands for what is missing, before that.
    """

    offset: tuple[float, ...] = (0.0,)
    scale: tuple[float, ...] = (1.0,)
    fill: tuple[float, ...] = ()

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``features`` [..., channels], filled and scaled."""
        values: NDArray[np.float32] = features.astype(np.float32)
        if self.fill:
            values = np.where(np.isnan(values), np.array(self.fill, np.float32), values)
        if self.is_identity:
            return values
        offset, scale = np.array(self.offset, np.float32), np.array(self.scale, np.float32)
        scaled: NDArray[np.float32] = (values - offset) / scale
        return scaled

    @property
    def is_identity(self) -> bool:
        """Whether numbers that are there stay as they are."""
        return self.offset == (0.0,) and self.scale == (1.0,)


def measure(spec: Normalise, chunks: Chunks, channels: int, *, fill: bool, whole: bool) -> Scaling | None:
    """Return the scaling that ``spec`` asks for; None if it asks for none and nothing is to be filled in.

    ``whole``: "unit" takes one range for everything, as pixels have; else one for each channel. NaN does not count.
    Raises InvalidDataset if the recipe gives numbers for another number of channels.
    """
    if len(spec.mean) not in (0, 1, channels):
        raise InvalidDataset(
            f"[prepare.normalise] gives {len(spec.mean)} means, but the data has {channels} channels or columns"
        )
    filled = _medians(chunks, channels) if fill else ()
    if spec.method == "none":
        return Scaling(fill=filled) if fill else None
    if spec.mean:
        return Scaling(spec.mean, spec.deviation, filled)
    offset, scale = _range(chunks, whole) if spec.method == "unit" else _moments(chunks, channels)
    return Scaling(_singles(offset), _singles(np.where(scale > 0, scale, 1.0)), filled)


def _singles(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(values.astype(np.float32).tolist())


def _range(chunks: Chunks, whole: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the least value and the span, of each channel or of all; 0 where nothing is there."""
    axes = (0, 1, 2) if whole else (0, 1)
    ends = [(np.fmin.reduce(chunk, axis=axes), np.fmax.reduce(chunk, axis=axes)) for chunk in chunks()]
    low = np.atleast_1d(np.fmin.reduce([low for low, _ in ends])).astype(np.float64)
    high = np.atleast_1d(np.fmax.reduce([high for _, high in ends])).astype(np.float64)
    return np.nan_to_num(low), np.nan_to_num(high - low)


def _moments(chunks: Chunks, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each channel, in double precision."""
    count, total, squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    pivot: NDArray[np.float64] | None = None  # near the values, so that squares keep their digits
    for chunk in chunks():
        if pivot is None:
            pivot = np.nan_to_num(chunk[0, 0].astype(np.float64))
        values = chunk.astype(np.float64) - pivot
        count += (~np.isnan(values)).sum(axis=(0, 1))
        total += np.nansum(values, axis=(0, 1))
        squares += np.nansum(values**2, axis=(0, 1))
    mean = total / np.maximum(count, 1)
    variance = np.maximum(squares / np.maximum(count, 1) - mean**2, 0)
    return mean + (0 if pivot is None else pivot), np.sqrt(variance)


def _medians(chunks: Chunks, channels: int) -> tuple[float, ...]:
    kept: list[NDArray[Any]] = []
    for chunk in chunks():
        kept.append(chunk.reshape(-1, channels))
        if sum(map(len, kept)) >= _MEDIAN_ROWS:
            break
    columns = np.concatenate(kept).T if kept else np.empty((channels, 0))
    return tuple(float(np.float32(_median(column))) for column in columns)


def _median(column: NDArray[Any]) -> float:
    there = column[~np.isnan(column)]
    return float(np.median(there)) if len(there) else 0.0
