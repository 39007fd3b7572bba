"""ONNX models for acceptance tests: linear ones that tell versions apart, slow ones, and ones that misbehave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from graphs import looping, model, save, value


def scaled(folder: Path, factor: float) -> Path:
    """``y = factor * x`` for x [n, 4]; return the file."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    return save(model([node], [value("x", ("n", 4))], [value("y", ("n", 4))], [constant]), folder) / "model.onnx"


def slow(folder: Path) -> Path:
    """``y = x`` after ``steps`` [1] INT64 rounds, see :func:`graphs.looping`; return the file."""
    return save(looping(), folder) / "model.onnx"


def poisoned(folder: Path) -> Path:
    """``y = log(-|x|)``: loads, and answers NaN; return the file."""
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("Neg", ["size"], ["less"]),
        helper.make_node("Log", ["less"], ["y"]),
    ]
    return save(model(nodes, [value("x", ("n", 4))], [value("y", ("n", 4))]), folder) / "model.onnx"
