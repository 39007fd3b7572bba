"""Rows are joined into one call of the engine only if that changes no answer."""

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphs import classifier, model, save, value
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.rows import rows_are_independent


def running_sum() -> ModelProto:
    """The first axis is time: each row of ``y`` is the sum of the rows of ``x`` up to it."""
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    axis = numpy_helper.from_array(np.array(0), "axis")
    return model([node], [value("x", ("t", 2))], [value("y", ("t", 2))], [axis])


def doubled() -> ModelProto:
    """Two rows come out for each that goes in."""
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    return model([node], [value("x", ("n", 2))], [value("y", ("m", 2))])


def normalised() -> ModelProto:
    """Every row depends on all: the mean over the first axis is taken off."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([0]), "axes")
    return model(nodes, [value("x", ("n", 2))], [value("y", ("n", 2))], [axes])


def row_wise() -> ModelProto:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    axes = numpy_helper.from_array(np.array([1]), "axes")
    return model([node], [value("x", ("n", "d"), TensorProto.INT64)], [value("y", ("n",), TensorProto.INT64)], [axes])


@pytest.mark.parametrize(
    ("build", "independent"),
    [
        (lambda: classifier(np.eye(4, dtype=np.float32)), True),
        (row_wise, True),
        (running_sum, False),
        (doubled, False),
        (normalised, False),
    ],
)
def test_independence_is_found_by_trying(build: object, independent: bool, tmp_path: Path) -> None:
    engine = load_engine("onnx", save(build(), tmp_path))  # type: ignore[operator]
    assert rows_are_independent(engine) is independent
    engine.close()
