"""Networks of Keras to ONNX, with PyTorch as Keras's backend: trained here, or pushed (.keras and HDF5)."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported

import keras
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Datatype, Signature, TensorSpec
from mofang.base.domain.work import Progress
from mofang.base.engines.native import boosted_answers
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import (
    boosted_signature,
    label_answers,
    labels_signature,
    name_labels,
    name_value,
    name_winner,
    sort_opsets,
)
from mofang.make.convert.onnx import rewrite
from mofang.make.convert.probes import tensor_trials
from mofang.make.train.keras.layers import LABELS

_ROWS_AT_ONCE = 1_024
_DATATYPES: Mapping[str, Datatype] = {
    "float32": "FP32", "float64": "FP64", "float16": "FP16", "int64": "INT64", "int32": "INT32", "int8": "INT8",
    "uint8": "UINT8", "bool": "BOOL",
}  # fmt: skip


def to_onnx(model: Any, folder: Path) -> Signature:
    """Write a network that was trained here as ``folder/model.onnx`` and return its signature.

    Input ``features`` FP32 [n, d], missing values NaN; outputs ``label`` INT64 [n] and ``probabilities`` FP32
    [n, classes], or ``value`` FP32 [n]. Raises ConversionFailed if a layer has no ONNX form.
    """
    features, answers = int(model.inputs[0].shape[1]), int(model.outputs[0].shape[1])
    several = _is_of_labels(model)
    classes = _classes(model)
    signature = labels_signature(features, answers) if several else boosted_signature(features, classes)
    folder.mkdir(parents=True, exist_ok=True)
    model(np.zeros((1, features), np.float32), training=False)  # what went on after its last epoch was never called yet
    _to_onnx(model, list(signature.inputs), ["probabilities"], folder)

    def finish(made: Any) -> None:
        if several:
            name_labels(made.graph, answers)
        elif classes:
            name_winner(made.graph)
        else:
            name_value(made.graph)

    rewrite(folder / "model.onnx", finish)
    return signature


def reference(model: Any, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what the network itself answers, by output."""
    parts = [features[start : start + _ROWS_AT_ONCE] for start in range(0, len(features), _ROWS_AT_ONCE)]
    found = np.concatenate([keras.ops.convert_to_numpy(model(part, training=False)) for part in parts])
    if _is_of_labels(model):
        return label_answers(found)
    return boosted_answers(found, _classes(model))


def _is_of_labels(model: Any) -> bool:
    return bool(model.layers[-1].name == LABELS)


def _classes(model: Any) -> int:
    """Return how many classes a network that was trained here tells apart; 0 if it answers a number."""
    return 0 if isinstance(model.layers[-1], keras.layers.Rescaling) else int(model.outputs[0].shape[1])


def open_keras(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open a ``.keras`` file. Layers that carry code of their maker are refused (``safe_mode``)."""
    return _open(path, ".keras", target, progress)


def open_h5(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open a whole model in HDF5, as older versions of Keras wrote it."""
    return _open(path, ".h5", target, progress)


def _open(path: Path, suffix: Literal[".keras", ".h5"], target: Path, progress: Progress) -> Made:
    logging.getLogger("absl").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"model{suffix}"  # Keras looks at the name of a file
        shutil.copyfile(path, named)
        try:
            model = keras.saving.load_model(named, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises anything over a damaged or refused file
            raise InvalidModel(
                f"Keras {keras.__version__} cannot read the model: {_first_line(error)}",
                hint="save the whole model, without Lambda layers: `model.save('model.keras')`",
            ) from error
    inputs = [_spec(each) for each in model.inputs]
    outputs = [f"output_{number}" for number in range(len(model.outputs))] if len(model.outputs) > 1 else ["output"]

    def source(asked: Mapping[str, Array]) -> dict[str, Array]:
        given = [asked[spec.name] for spec in inputs]
        answer = model(given if len(given) > 1 else given[0], training=False)
        several = (
            answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (list, tuple)) else [answer]
        )
        return dict(zip(outputs, map(keras.ops.convert_to_numpy, several), strict=True))

    source({spec.name: _zeros(spec) for spec in inputs})  # a model that was never called cannot be exported
    return onnx_or_native(
        Attempt(
            write=lambda folder: _to_onnx(model, inputs, outputs, folder),
            source=source,
            trials=tensor_trials(inputs),
            keep=None,
            packages=("keras", "torch", "onnxscript"),
        ),
        target,
        progress,
    )


def _to_onnx(model: Any, inputs: list[TensorSpec], outputs: list[str], folder: Path) -> None:
    path = folder / "model.onnx"
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that become constants: the proof tells whether they may
            model.export(path, format="onnx", verbose=False)
    except Exception as error:  # exporters raise anything
        raise ConversionFailed(f"the model cannot be exported to ONNX: {_first_line(error)}", hint="") from error

    def finish(made: Any) -> None:
        _rename(made.graph, [spec.name for spec in inputs], outputs)
        sort_opsets(made)

    rewrite(path, finish)
    for beside in folder.glob("model.onnx.*"):  # weights the exporter left beside the graph: they are in it now
        beside.unlink()


def _rename(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Give inputs and outputs their names: the exporter counts its values, and so names them anew each time."""
    names = dict(zip([each.name for each in graph.input], inputs, strict=True))
    names |= dict(zip([each.name for each in graph.output], outputs, strict=True))
    for each in (*graph.input, *graph.output):
        each.name = names[each.name]
    for node in graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
        del node.metadata_props[:]
        node.ClearField("doc_string")
    del graph.value_info[:]


def _spec(tensor: Any) -> TensorSpec:
    datatype = _DATATYPES.get(str(tensor.dtype))
    if datatype is None:
        raise InvalidModel(f"input {tensor.name!r} is {tensor.dtype}, which cannot be served", hint="take numbers")
    return TensorSpec(tensor.name, datatype, tuple(-1 if size is None else int(size) for size in tensor.shape))


def _zeros(spec: TensorSpec) -> Array:
    return np.zeros([2 if size < 0 else size for size in spec.shape], np.dtype(_numpy(spec)))


def _numpy(spec: TensorSpec) -> str:
    return next(name for name, datatype in _DATATYPES.items() if datatype == spec.datatype)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
