"""Graphs of an exporter that writes every size down, opened again where two exports differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mofang.base.domain.errors import ConversionFailed
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.sizes.onnx import open_sizes, read


def _exported(folder: Path, rows: int, operator: str = "Reshape", constant: bool = False) -> Any:
    """Write and read what an exporter makes at ``rows`` of a network that reshapes, or expands, [n, 2, 3]."""
    shape = numpy_helper.from_array(np.array([rows, 6 if operator == "Reshape" else 2, *[3][: operator == "Expand"]]))
    nodes = [
        helper.make_node("Relu", ["11"], [f"{rows}-relu"], name=f"Relu-op{rows}"),
        helper.make_node(operator, [f"{rows}-relu", "shape"], [f"{rows}-out"]),
    ]
    if constant:
        nodes.insert(0, helper.make_node("Constant", [], ["shape"], value=shape))
    shape.name = "shape"
    ends = [
        helper.make_tensor_value_info("11", TensorProto.FLOAT, [rows, 2, 3]),
        helper.make_tensor_value_info(
            f"{rows}-out", TensorProto.FLOAT, [rows, 6] if operator == "Reshape" else [rows, 2, 3]
        ),
    ]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], [] if constant else [shape])
    path = folder / f"{rows}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return read(path, ["rows"], ["flat"])


@pytest.mark.parametrize("constant", [False, True])
def test_a_size_that_reshape_was_given_is_opened(tmp_path: Path, constant: bool) -> None:
    model = _exported(tmp_path, 2, constant=constant)
    open_sizes(model, _exported(tmp_path, 3, constant=constant))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    engine = load_engine("onnx", tmp_path)
    ends = [str(spec) for spec in (*engine.signature.inputs, *engine.signature.outputs)]
    assert ends == ["rows: [n, 2, 3] FP32", "flat: [n, 6] FP32"]
    for rows in (1, 2, 5):
        asked = np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3) - 3
        assert np.array_equal(engine.infer({"rows": asked})["flat"], np.maximum(asked, 0).reshape(rows, 6))


def test_a_size_anywhere_else_and_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionFailed, match="went into Expand, where it cannot be opened"):
        open_sizes(_exported(tmp_path, 2, "Expand"), _exported(tmp_path, 3, "Expand"))
    with pytest.raises(ConversionFailed, match="has another form for other sizes"):
        open_sizes(_exported(tmp_path, 2), _exported(tmp_path, 3, constant=True))
    with pytest.raises(ConversionFailed, match="takes 1 tensors and gives 1, the model takes 2 and gives 1"):
        read(tmp_path / "2.onnx", ["rows", "more"], ["flat"])
