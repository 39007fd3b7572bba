"""What ONNX models may look like: text, several inputs, scalars, insane answers, open sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mofang.base.domain.errors import EngineLoadFailed, TensorData, WarmUpFailed
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.engines.base import Engine, warm_up
from mofang.base.engines.catalog import load_engine

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def load(folder: Path, nodes: list[onnx.NodeProto], inputs: dict, outputs: dict, weights: dict | None = None) -> Engine:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
        [helper.make_tensor_value_info(name, *each) for name, each in outputs.items()],
        [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    return load_engine("onnx", folder)


def test_text_goes_in_and_comes_out_as_bytes(tmp_path: Path) -> None:
    engine = load(
        tmp_path, [helper.make_node("Identity", ["t"], ["u"])], {"t": (STRING, ["n", 2])}, {"u": (STRING, ["n", 2])}
    )
    warm_up(engine)
    texts = np.array([[b"plain", "模坊".encode()], [b"", b"a\nb"]], dtype=object)
    assert np.array_equal(engine.infer({"t": texts})["u"], texts)
    with pytest.raises(TensorData, match="'t'"):
        engine.infer({"t": np.array([[b"\xff", b""]], dtype=object)})


def test_several_inputs_of_several_types(tmp_path: Path) -> None:
    nodes = [helper.make_node("Cast", ["k"], ["f"], to=FLOAT), helper.make_node("Add", ["x", "f"], ["y"])]
    engine = load(tmp_path, nodes, {"x": (FLOAT, ["n", 3]), "k": (INT64, ["n", 1])}, {"y": (FLOAT, ["n", 3])})
    assert engine.signature == Signature(
        (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("k", "INT64", (-1, 1))), (TensorSpec("y", "FP32", (-1, 3)),)
    )
    warm_up(engine)
    found = engine.infer({"x": np.ones((2, 3), np.float32), "k": np.array([[1], [2]])})["y"]
    assert found.tolist() == [[2, 2, 2], [3, 3, 3]]


def test_a_model_without_a_batch_dimension(tmp_path: Path) -> None:
    engine = load(
        tmp_path, [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], {"x": (FLOAT, [2, 2])}, {"y": (FLOAT, [])}
    )
    assert not engine.signature.batchable
    warm_up(engine)
    assert engine.infer({"x": np.ones((2, 2), np.float32)})["y"] == 4


def test_insane_answers_do_not_warm_up(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["x", "x"], ["zero"]), helper.make_node("Div", ["zero", "zero"], ["y"])]
    engine = load(tmp_path, nodes, {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])})
    with pytest.raises(WarmUpFailed, match="not finite"):
        warm_up(engine)


def test_open_sizes_are_tried_until_one_is_computed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    engine = load(
        tmp_path,
        nodes,
        {"x": (FLOAT, ["n", 1, "h", "w"])},
        {"y": (FLOAT, ["n", 1, "h2", "w2"])},
        {"w": np.ones((1, 1, 3, 3), np.float32)},
    )
    warm_up(engine)


def test_outputs_that_are_no_tensors_do_not_load(tmp_path: Path) -> None:
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["s"])]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("s", FLOAT, None)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx"
    )
    with pytest.raises(EngineLoadFailed, match="seq"):
        load_engine("onnx", tmp_path)
