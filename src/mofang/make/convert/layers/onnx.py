"""Layers to ONNX: a Gemm and an activation each. ``parity.py`` proves that an engine answers as the function does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.make.convert.graph import boosted_signature
from mofang.make.train.function import Fitted, Layer

_OPSET, _IR = 20, 10
_LAST = np.array([1], np.int64)
_OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softmax": "Softmax"}


def to_onnx(fitted: Fitted, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature; see :func:`write`."""
    return write(fitted.model.layers, fitted.features, fitted.classes, folder)


def write(layers: Sequence[Layer], features: int, classes: int, folder: Path, *, fill: bool = False) -> Signature:
    """Write ``layers`` as ``folder/model.onnx`` and return its signature. The same weights give the same bytes.

    Input ``features`` FP32 [n, d], with ``fill`` zero where it is missing; outputs ``label`` INT64 [n] and
    ``probabilities`` FP32 [n, classes], or ``value`` FP32 [n]. Raises ConversionFailed if the layers do not fit
    together.
    """
    signature = boosted_signature(features, classes)
    graph = _Graph()
    width, last = features, graph.filled("features") if fill else "features"
    for number, layer in enumerate(layers):
        last, width = graph.layer(number, layer, last, width)
    graph.answer(last, width, classes)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "mofang",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", features])],
            [_declared(spec) for spec in signature.outputs], graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR, producer_name="mofang",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return signature


def reference(fitted: Fitted, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what the function's own ``predict`` answers, by output."""
    return fitted.answers(features)


def _declared(spec: TensorSpec) -> Any:
    kind = TensorProto.INT64 if spec.datatype == "INT64" else TensorProto.FLOAT
    return helper.make_tensor_value_info(spec.name, kind, ["n", *spec.shape[1:]])


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def filled(self, given: str) -> str:
        """Add zeros where a number is missing; return what that gives."""
        zero = self._weight("zero", np.array(0, np.float32))
        return self._node("Where", "filled", self._node("IsNaN", "missing", given), zero, given)

    def layer(self, number: int, layer: Any, given: str, width: int) -> tuple[str, int]:
        """Add a layer; return the name and the width of what it computes."""
        weights, bias = np.asarray(layer.weights, np.float32), np.asarray(layer.bias, np.float32).reshape(-1)
        if weights.ndim != 2 or weights.shape[0] != width or bias.shape != weights.shape[1:]:
            raise ConversionFailed(
                f"layer {number + 1} has weights {list(weights.shape)} and bias {list(bias.shape)} for {width} inputs",
                hint="weights are [inputs, outputs], the bias has one number for each output",
            )
        names = [self._weight(f"weights_{number}", weights), self._weight(f"bias_{number}", bias)]
        found = self._node("Gemm", f"sums_{number}", given, *names)
        if layer.activation == "shares":
            total = self._node("ReduceSum", f"total_{number}", found, self._weight(f"axis_{number}", _LAST), keepdims=1)
            found = self._node("Div", f"layer_{number}", found, total)
        elif layer.activation != "none":
            axis = {"axis": 1} if layer.activation == "softmax" else {}
            found = self._node(_OPERATORS[layer.activation], f"layer_{number}", found, **axis)
        return found, weights.shape[1]

    def answer(self, last: str, width: int, classes: int) -> None:
        """Turn what the last layer computes into the outputs."""
        if width != max(classes, 1) and not (classes == 2 and width == 1):
            raise ConversionFailed(f"the last layer has {width} outputs; {max(classes, 1)} are needed", hint="add them")
        if not classes:
            self._node("Reshape", "value", last, self._weight("one_axis", np.array([-1], np.int64)))
            return
        if width == 1:
            one = self._weight("one", np.array(1, np.float32))
            self._node("Concat", "probabilities", self._node("Sub", "first", one, last), last, axis=1)
        else:
            self._node("Identity", "probabilities", last)
        self._node("ArgMax", "label", "probabilities", axis=1, keepdims=0)

    def _node(self, operator: str, output: str, *inputs: str, **attributes: int) -> str:
        self.nodes.append(helper.make_node(operator, [*inputs], [output], name=output, **attributes))
        return output

    def _weight(self, name: str, values: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name
