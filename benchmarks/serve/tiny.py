"""The model that is served, and the requests that are sent: logistic regression, 64 floats to 10 probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, CLASSES = 64, 10
_random = np.random.default_rng(7)
ROW = np.round(_random.random(FEATURES, np.float32), 3)


def save(folder: Path) -> None:
    """Write ``folder/model.onnx``."""
    weights = numpy_helper.from_array(_random.standard_normal((FEATURES, CLASSES), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["s"]), helper.make_node("Softmax", ["s"], ["y"], axis=1)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("x", TensorProto.FLOAT, ["n", FEATURES])],
        [value("y", TensorProto.FLOAT, ["n", CLASSES])],
        [weights],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )


def json_request() -> tuple[dict[str, str], bytes]:
    """Header fields and body of one inference in JSON."""
    numbers = ",".join(f"{value:.3f}" for value in ROW.tolist())
    body = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,{FEATURES}],"data":[{numbers}]}}]}}'
    return {"content-type": "application/json"}, body.encode()


def binary_request() -> tuple[dict[str, str], bytes]:
    """Header fields and body of one inference with binary tensors both ways."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "parameters": {"binary_data_size": ROW.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }, head + ROW.tobytes()
