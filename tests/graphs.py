"""Small ONNX models for tests, built node by node: what goes in and what comes out is known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Dims = Sequence[int | str] | None


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """Write ``folder/model.onnx`` and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initialisers: Sequence[onnx.TensorProto] = (),
    opset: int = 20,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """Put a model together, unchecked."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initialisers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def value(name: str, dims: Dims, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Declare an input or output; ``dims=None`` leaves its rank open."""
    return helper.make_tensor_value_info(name, kind, dims)


def one_node(op: str, *, kind: int = TensorProto.FLOAT, dims: Dims = ("n", 2), **more: int | str) -> onnx.ModelProto:
    """A model ``y = op(x)``."""
    domain = str(more.get("domain", ""))
    node = helper.make_node(op, ["x"], ["y"], domain=domain)
    domains = [domain] if domain else []
    return model([node], [value("x", dims, kind)], [value("y", dims, kind)], (), int(more.get("opset", 20)), domains)


def looping() -> onnx.ModelProto:
    """``y = x`` after ``steps`` [1] INT64 rounds of multiplying a 128 x 128 matrix.

    A round takes some tens of microseconds on one core, so that a caller chooses how long the model computes.
    """
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "state"], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            value("round", (), TensorProto.INT64),
            value("go", (), TensorProto.BOOL),
            value("state", (128, 128)),
        ],
        [value("on", (), TensorProto.BOOL), value("next", (128, 128))],
    )
    nodes = [
        helper.make_node("Squeeze", ["steps"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "always", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["total"], keepdims=0),
        helper.make_node("Mul", ["total", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(True), "always"),
        numpy_helper.from_array(np.full((128, 128), 0.01, np.float32), "start"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    inputs = [value("x", (1, 4)), value("steps", (1,), TensorProto.INT64)]
    return model(nodes, inputs, [value("y", (1, 4))], constants)


def classifier(weights: NDArray[np.float32], *, names: Sequence[str] = ()) -> onnx.ModelProto:
    """``features`` [n, d] times ``weights`` [d, k]: ``probabilities`` [n, k], and ``label`` [n] if there are ``names``.

    Without names ``label`` is the index.
    """
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    if names:
        constants.append(helper.make_tensor("names", TensorProto.STRING, [len(names)], [n.encode() for n in names]))
        nodes.append(helper.make_node("Gather", ["names", "best"], ["label"]))
    else:
        nodes.append(helper.make_node("Identity", ["best"], ["label"]))
    outputs = [
        value("label", ("n",), TensorProto.STRING if names else TensorProto.INT64),
        value("probabilities", ("n", weights.shape[1])),
    ]
    return model(nodes, [value("features", ("n", weights.shape[0]))], outputs, constants)


def masked_mean(*, heeds: bool = True) -> onnx.ModelProto:
    """What an encoder is in little: ``ids`` and ``mask`` [n, t] INT64 become ``mean`` [n, 3] and ``steps`` [n, t, 3].

    ``mean`` is that of the vectors of the tokens where ``mask`` is 1, ``steps`` are the vectors less it. One that does
    not heed the mask takes the mean of all.
    """
    ids, mask = value("ids", ("n", "t"), TensorProto.INT64), value("mask", ("n", "t"), TensorProto.INT64)
    table = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "steps_axis"),
        numpy_helper.from_array(np.array([2], np.int64), "last_axis"),
        numpy_helper.from_array(np.array(0 if heeds else 1, np.float32), "least"),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Cast", ["mask"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Max", ["ones", "least"], ["weights"]),
        helper.make_node("Unsqueeze", ["weights", "last_axis"], ["columns"]),
        helper.make_node("Mul", ["vectors", "columns"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "steps_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "steps_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Unsqueeze", ["mean", "steps_axis"], ["row"]),
        helper.make_node("Sub", ["vectors", "row"], ["steps"]),
    ]
    return model(nodes, [ids, mask], [value("mean", ("n", 3)), value("steps", ("n", "t", 3))], constants)
