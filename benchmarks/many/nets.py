"""Models to serve many of: small perceptrons of a given size, each with weights of its own and a number it answers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 64
STEP = 1000.0  # between the answers of two models: their weights are too small to bridge it


def save(number: int, size_bytes: int, path: Path) -> None:
    """Write an ONNX of about ``size_bytes``: x FP32 [n, 64] to y FP32 [n, 1], which is about ``number`` x STEP."""
    wide = round((-FEATURES + math.sqrt(FEATURES**2 + size_bytes)) / 2)  # 4 (64 w + w^2) bytes
    random = np.random.default_rng(number)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((random.standard_normal(shape, np.float32) * 0.01), name)

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["e"]),
        helper.make_node("Add", ["e", "number"], ["y"]),
    ]
    known = [weights("w1", FEATURES, wide), weights("w2", wide, wide), weights("w3", wide, 1)]
    known.append(numpy_helper.from_array(np.array([number * STEP], np.float32), "number"))
    takes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])]
    graph = helper.make_graph(nodes, "model", takes, gives, known)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
