"""What a graph computes channel by channel: statistics of its tensors on calibration rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array
from mofang.make.compress.onnx.calibrate import batches
from mofang.make.compress.onnx.graph import MODEL, session, store
from mofang.make.compress.subject import Means

_ROWS = 96

Channels = NDArray[np.float32]
"""A number for each channel [c]: axis 1 of a tensor."""


def means_of(model: Any, tensors: Collection[str], means: Means) -> dict[str, Channels]:
    """Return the mean of each channel of ``tensors``, over rows and places."""
    return _reduced(model, tensors, means, lambda values, axes: values.mean(axes), lambda parts: np.mean(parts, axis=0))


def largest_of(model: Any, tensors: Collection[str], means: Means) -> dict[str, Channels]:
    """Return the largest size that each channel of ``tensors`` has anywhere."""
    return _reduced(
        model, tensors, means, lambda values, axes: np.abs(values).max(axes), lambda parts: np.max(parts, axis=0)
    )


def _reduced(
    model: Any,
    tensors: Collection[str],
    means: Means,
    reduce: Callable[[Array, tuple[int, ...]], Channels],
    join: Callable[[Sequence[Channels]], Channels],
) -> dict[str, Channels]:
    """Reduce all axes but that of the channels; of tensors of no two axes, and of others than floats, nothing."""
    given = {each.name for each in model.graph.input}
    asked = copy.deepcopy(model)
    wanted = sorted(set(tensors) - given - {each.name for each in model.graph.output})
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    folder = means.scratch()
    store(asked, folder)
    running = session(folder / MODEL)
    names = [each.name for each in running.get_outputs() if each.name in tensors]
    parts: dict[str, list[Channels]] = {}
    for inputs in batches(model, {name: rows[:_ROWS] for name, rows in means.calibration.items()}):
        found: Mapping[str, Array] = dict(zip(names, running.run(names, inputs), strict=True)) if names else {}
        for name, values in {**found, **{name: inputs[name] for name in given & set(tensors)}}.items():
            if values.ndim > 1 and values.dtype == np.float32:
                parts.setdefault(name, []).append(reduce(values, (0, *range(2, values.ndim))))
    return {name: join(each).astype(np.float32) for name, each in parts.items()}
