"""The models that are served, and the requests that are sent: weights are random, shapes are what cost."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mofang.surface.wire import inference_pb2 as pb

_random = np.random.default_rng(7)
_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64
_HIDDEN, _HEADS, _TOKENS, _VOCABULARY = 384, 12, 128, 1000


class Graph:
    """Collects nodes and weights of an ONNX graph; every node has one output, which is returned by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, *shape: int, scale: float = 0.05) -> str:
        return self.constant((_random.standard_normal(shape, np.float32) * scale).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def dense(self, x: str, wide: int, narrow: int) -> str:
        return self.node("Add", self.node("MatMul", x, self.weight(wide, narrow)), self.weight(narrow))

    def save(self, folder: Path, given: Any, answer: str, shape: list[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [answer], ["y"]))
        out = helper.make_tensor_value_info("y", _FLOAT, shape)
        graph = helper.make_graph(self.nodes, "model", [given], [out], self.weights)
        folder.mkdir(parents=True, exist_ok=True)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(made, folder / "model.onnx")


def _tiny(folder: Path) -> None:
    graph = Graph()
    scores = graph.node("MatMul", "x", graph.weight(64, 10, scale=1.0))
    given = helper.make_tensor_value_info("x", _FLOAT, ["n", 64])
    graph.save(folder, given, graph.node("Softmax", scores, axis=1), ["n", 10])


def _cnn(folder: Path) -> None:
    graph = Graph()
    x, channels = "x", 3
    for wider in (64, 128, 256):
        weights = graph.weight(wider, channels, 3, 3)
        x = graph.node("Relu", graph.node("Conv", x, weights, pads=[1, 1, 1, 1]))
        x, channels = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), wider
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    given = helper.make_tensor_value_info("x", _FLOAT, ["n", 3, 64, 64])
    graph.save(folder, given, graph.dense(x, channels, 10), ["n", 10])


def _encoder(folder: Path) -> None:
    graph = Graph()
    x = graph.node("Gather", graph.weight(_VOCABULARY, _HIDDEN), "x")
    for _ in range(6):
        x = _normalised(graph, graph.node("Add", x, _attention(graph, x)))
        wide = graph.node("Gelu", graph.dense(x, _HIDDEN, 4 * _HIDDEN))
        x = _normalised(graph, graph.node("Add", x, graph.dense(wide, 4 * _HIDDEN, _HIDDEN)))
    mean = graph.node("ReduceMean", x, graph.constant(np.array([1])), keepdims=0)
    graph.save(folder, helper.make_tensor_value_info("x", _INT, ["n", _TOKENS]), mean, ["n", _HIDDEN])


def _attention(graph: Graph, x: str) -> str:
    def heads(order: list[int]) -> str:
        split = graph.constant(np.array([0, _TOKENS, _HEADS, _HIDDEN // _HEADS]))
        return graph.node("Transpose", graph.node("Reshape", graph.dense(x, _HIDDEN, _HIDDEN), split), perm=order)

    scores = graph.node("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1]))
    scores = graph.node("Mul", scores, graph.constant(np.float32((_HIDDEN // _HEADS) ** -0.5)))
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), heads([0, 2, 1, 3]))
    joined = graph.constant(np.array([0, _TOKENS, _HIDDEN]))
    return graph.dense(
        graph.node("Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), joined), _HIDDEN, _HIDDEN
    )


def _minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2 from a package, all of its tokens attended to, so that it takes one input like the others."""
    sys.path.append(str(Path(__file__).parents[1] / "compress"))
    from wheels import MINILM, unpacked

    from mofang.base.domain.work import Silent
    from mofang.make.convert.bench import Wishes
    from mofang.make.convert.pushed.transformers.torch import open_folder

    source = next(unpacked(MINILM).rglob("model.safetensors")).parent
    with tempfile.TemporaryDirectory() as made:
        open_folder(source, Path(made), Wishes(), Silent())
        model = onnx.load(Path(made) / "model.onnx")
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["x" if name == "input_ids" else name for name in node.input]
    constants = [("attention_mask", 1), ("token_type_ids", 0)]
    made_up = [helper.make_node("Shape", ["x"], ["x_shape"])]
    for name, value in constants:
        filled = numpy_helper.from_array(np.array([value], np.int64))
        made_up.append(helper.make_node("ConstantOfShape", ["x_shape"], [name], value=filled))
    nodes = [*made_up, *graph.node]
    embedding = [each for each in graph.output if each.name == "sentence_embedding"]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.output.extend(embedding)
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("x", _INT, ["n", _TOKENS]))
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")


def _normalised(graph: Graph, x: str) -> str:
    ones, zeros = np.ones(_HIDDEN, np.float32), np.zeros(_HIDDEN, np.float32)
    return graph.node("LayerNormalization", x, graph.constant(ones), graph.constant(zeros), axis=-1)


@dataclass(frozen=True)
class Model:
    """One model with one input ``x``; ``row`` is what every request sends."""

    name: str
    graph: Callable[[Path], None]
    row: np.ndarray[Any, Any]
    datatype: str

    def save(self, folder: Path) -> None:
        """Write ``folder/model.onnx``, and the row as ``row.npy``."""
        self.graph(folder)
        np.save(folder / "row.npy", self.row)

    @property
    def shape(self) -> list[int]:
        return list(self.row.shape)

    @cached_property
    def json_request(self) -> tuple[dict[str, str], bytes]:
        """Header fields and body of one inference in JSON."""
        numbers = ",".join(f"{value:.3f}" if self.datatype == "FP32" else str(value) for value in self.row.ravel())
        shape = ",".join(map(str, self.shape))
        body = f'{{"inputs":[{{"name":"x","datatype":"{self.datatype}","shape":[{shape}],"data":[{numbers}]}}]}}'
        return {"content-type": "application/json"}, body.encode()

    @cached_property
    def rows_request(self) -> tuple[dict[str, str], bytes]:
        """Header fields and body of one inference as a JSON object of rows, for servers without a protocol."""
        return {"content-type": "application/json"}, json.dumps({"x": self.row.round(3).tolist()}).encode()

    @cached_property
    def binary_request(self) -> tuple[dict[str, str], bytes]:
        """Header fields and body of one inference with binary tensors both ways."""
        size = {"binary_data_size": self.row.nbytes}
        tensor = {"name": "x", "datatype": self.datatype, "shape": self.shape, "parameters": size}
        asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        head = json.dumps(asked, separators=(",", ":")).encode()
        lengths = {"inference-header-content-length": str(len(head))}
        return {"content-type": "application/octet-stream", **lengths}, head + self.row.tobytes()

    @cached_property
    def grpc_request(self) -> tuple[dict[str, str], bytes]:
        """Header fields and framed message of one inference over gRPC."""
        message = pb.ModelInferRequest(model_name="tiny", raw_input_contents=[self.row.tobytes()])
        message.inputs.add(name="x", datatype=self.datatype, shape=self.shape)
        data = message.SerializeToString()
        return {"content-type": "application/grpc", "te": "trailers"}, b"\0" + len(data).to_bytes(4, "big") + data


MODELS = {
    "tiny": Model("tiny", _tiny, np.round(_random.random((1, 64), np.float32), 3), "FP32"),
    "cnn": Model("cnn", _cnn, np.round(_random.random((1, 3, 64, 64), np.float32), 3), "FP32"),
    "encoder": Model("encoder", _encoder, _random.integers(0, _VOCABULARY, (1, _TOKENS)), "INT64"),
    "minilm": Model("minilm", _minilm, _random.integers(1000, 20_000, (1, _TOKENS)), "INT64"),
}
"""Logistic regression, 64 floats to 10; three convolutions over 3 x 64 x 64; six attention layers over 128 tokens, with
random weights, and all-MiniLM-L6-v2 over as many (needs the extra ``transformers``)."""
