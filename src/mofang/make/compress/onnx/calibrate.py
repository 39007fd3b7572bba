"""The range of every tensor of a graph, learned from calibration rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import create_calibrator

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Array
from mofang.make.compress.onnx.graph import MODEL, store
from mofang.make.compress.step import Calibration
from mofang.make.compress.subject import Means

_METHODS = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {}),
    "percentile": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.99}),
}
_ROWS_AT_ONCE = 16
IMAGE_KEY = "mofang.image"  # metadata of a graph: which input takes files, decoded by the engine


def ranges(model: Any, method: Calibration, operators: list[str], means: Means) -> Any:
    """Return the ranges of all tensors of ``model`` at ``operators``, as a ``TensorsData`` of ONNX Runtime.

    Raises NoVariant if there are no calibration rows.
    """
    if not means.calibration:
        raise NoVariant(
            "static int8 learns the ranges of numbers from rows, and there are none",
            hint="give a sample of what the model is asked: `--calibration FILE` or a dataset",
        )
    folder = means.scratch()
    store(model, folder)
    kind, options = _METHODS[method]
    ort.set_default_logger_severity(4)  # of the calibrators' sessions, to which nothing else can be said
    with redirect_stdout(io.StringIO()):  # the calibrators print
        calibrator = create_calibrator(
            folder / MODEL, operators, str(folder / "augmented.onnx"), calibrate_method=kind, extra_options=options
        )
        for batch in batches(model, means.calibration):
            calibrator.collect_data(_Reader([batch]))
        try:
            return calibrator.compute_data()
        except ValueError as error:
            raise NoVariant(f"the ranges of its numbers cannot be learned: {error}") from error


def batches(model: Any, rows: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Give calibration rows as the graph takes them (files of images decoded), a few at a time."""
    known = {each.name: each for each in model.graph.input}
    opened = all(not known[name].type.tensor_type.shape.dim[0].HasField("dim_value") for name in rows)
    image = next((each.value for each in model.metadata_props if each.key == IMAGE_KEY), "")
    count = len(next(iter(rows.values())))
    size = _ROWS_AT_ONCE if opened else 1
    for start in range(0, count, size):
        batch = {name: array[start : start + size] for name, array in rows.items()}
        if image:
            batch[image] = _pixels(known[image], batch[image])
        yield {name: _texts(array) if array.dtype == object else array for name, array in batch.items()}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[dict[str, Array]]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)


def _pixels(known: Any, files: Array) -> Array:
    from mofang.base.engines.pillow import pixels

    height, width, *channels = (each.dim_value for each in known.type.tensor_type.shape.dim[1:])
    decode = partial(pixels, size=(height, width), channels=sum(channels))
    return np.stack([decode(file, where=f"calibration row {row}") for row, file in enumerate(files.tolist())])


def _texts(array: Array) -> Array:
    return np.array([each.decode() for each in array.ravel().tolist()], np.object_).reshape(array.shape)
