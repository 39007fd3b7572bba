"""TensorFlow's SavedModel to ONNX, by tf2onnx. Runs on a bench in the toolchain of TensorFlow, never in the server."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tf2onnx

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.tensors import Array, Datatype, TensorSpec
from mofang.base.domain.work import Progress
from mofang.make.convert.attempt import Attempt, onnx_or_native
from mofang.make.convert.bench import Made, Wishes
from mofang.make.convert.graph import sort_opsets
from mofang.make.convert.probes import tensor_trials

_OPSET = 17
_SIGNATURE = "serving_default"
_DATATYPES: Mapping[str, Datatype] = {
    "float32": "FP32", "float64": "FP64", "float16": "FP16", "int64": "INT64", "int32": "INT32", "int16": "INT16",
    "int8": "INT8", "uint8": "UINT8", "bool": "BOOL", "string": "BYTES",
}  # fmt: skip


def open_folder(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``tf.saved_model.save`` wrote, by its signature ``serving_default``."""
    for name in ("tensorflow", "tf2onnx", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    served = _served(path)
    inputs = [_spec(name, each) for name, each in sorted(served.structured_input_signature[1].items())]
    outputs = sorted(served.structured_outputs)

    def source(asked: Mapping[str, Array]) -> dict[str, Array]:
        found = served(**{spec.name: tf.constant(asked[spec.name]) for spec in inputs})
        return {name: np.asarray(found[name]) for name in outputs}

    return onnx_or_native(
        Attempt(
            write=lambda folder: _to_onnx(served, inputs, outputs, folder),
            source=source,
            trials=tensor_trials(inputs),
            keep=None,
            packages=("tensorflow-cpu", "tf2onnx"),
        ),
        target,
        progress,
    )


def _served(path: Path) -> Any:
    """Return the function that the model is served by; the way of TensorFlow 1 opens some that the new one does not."""
    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises anything over a damaged folder
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InvalidModel(
            f"TensorFlow {tf.__version__} cannot read the model: {first[:200]}",
            hint="save it again with `tf.saved_model.save` or `model.export`",
        ) from error
    if _SIGNATURE not in loaded.signatures:
        found = ", ".join(sorted(loaded.signatures)) or "none"
        raise InvalidModel(
            f"the model has no signature {_SIGNATURE!r}; it has {found}",
            hint="save it with `tf.saved_model.save(model, path, signatures=function)`",
        )
    served = loaded.signatures[_SIGNATURE]
    served.kept = loaded  # the function does not keep alive what it computes with
    return served


def _spec(name: str, tensor: Any) -> TensorSpec:
    datatype = _DATATYPES.get(tensor.dtype.name)
    if datatype is None or tensor.shape.rank is None:
        raise InvalidModel(f"input {name!r} is {tensor}, which cannot be served", hint="take tensors of known rank")
    return TensorSpec(name, datatype, tuple(-1 if size is None else int(size) for size in tensor.shape))


def _to_onnx(served: Any, inputs: list[TensorSpec], outputs: list[str], folder: Path) -> None:
    names = [spec.name for spec in inputs]
    given = [
        tf.TensorSpec([None if size < 0 else size for size in spec.shape], _dtype(spec), name=spec.name)
        for spec in inputs
    ]

    def ordered(*values: Any) -> Any:
        found = served(**dict(zip(names, values, strict=True)))
        return [tf.identity(found[name], name=name) for name in outputs]

    try:
        model, _ = tf2onnx.convert.from_function(
            tf.function(ordered, input_signature=given), input_signature=given, opset=_OPSET
        )
    except Exception as error:  # exporters raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionFailed(f"the model cannot be exported to ONNX: {first[:200]}", hint="") from error
    _rename(model.graph, names, outputs)
    sort_opsets(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any, inputs: list[str], outputs: list[str]) -> None:
    """Give inputs and outputs the names of the signature: tf2onnx appends the number of the tensor."""
    names = dict(zip([each.name for each in graph.input], inputs, strict=True))
    for each in graph.input:
        each.name = names[each.name]
    for node in graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
    for each, name in zip(graph.output, outputs, strict=True):
        if each.name != name:
            graph.node.add(name=f"named/{name}", op_type="Identity", input=[each.name], output=[name])
            each.name = name


def _dtype(spec: TensorSpec) -> Any:
    return tf.dtypes.as_dtype(next(name for name, datatype in _DATATYPES.items() if datatype == spec.datatype))
