"""ONNX models for acceptance tests: linear ones that tell versions apart, slow ones, and ones that misbehave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from graphs import model, save, value


def scaled(folder: Path, factor: float) -> Path:
    """``y = factor * x`` for x [n, 4]; return the file."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    return save(model([node], [value("x", ("n", 4))], [value("y", ("n", 4))], [constant]), folder) / "model.onnx"


def slow(folder: Path) -> Path:
    """``y = x`` after ``steps`` [1] INT64 rounds of multiplying a 128 x 128 matrix; return the file.

    A round takes about 40 microseconds on one core, so that a caller chooses how long the model computes.
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
    return save(model(nodes, inputs, [value("y", (1, 4))], constants), folder) / "model.onnx"


def poisoned(folder: Path) -> Path:
    """``y = log(-|x|)``: loads, and answers NaN; return the file."""
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Neg", ["size"], ["less"]),
        helper.make_node("Log", ["less"], ["y"]),
    ]
    return save(model(nodes, [value("x", ("n", 4))], [value("y", ("n", 4))]), folder) / "model.onnx"
