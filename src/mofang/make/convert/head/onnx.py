"""An encoder's graph and a head's graph become one; an encoder of pictures takes them as data sets hold them.

Called by the pipeline. A proof of parity holds the joined graph against encoder and head asked one after the other.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from mofang.base.domain.errors import ConversionFailed

_PREFIX = "head/"
_LEAST_OPSET = 13  # since which everything that a head is made of means the same


def channels_last(path: Path, name: str) -> None:
    """Let input ``name`` FP32 [n, channels, height, width] of the graph at ``path`` be [n, height, width, channels]."""
    model = onnx.load(path)
    graph = model.graph
    (taken,) = (each for each in graph.input if each.name == name)
    dims = taken.type.tensor_type.shape.dim
    order = [copy.deepcopy(dims[axis]) for axis in (0, 2, 3, 1)]
    del dims[:]
    dims.extend(order)
    turned = f"{_PREFIX}{name}"
    for node in graph.node:
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = turned
    graph.node.insert(0, helper.make_node("Transpose", [name], [turned], name=turned, perm=[0, 3, 1, 2]))
    _save(model, path)


def join(encoder: Path, head: Path, vector: str) -> None:
    """Put the graph at ``head``, whose one input takes the output ``vector`` of that at ``encoder``, behind it.

    The outputs are those of the head alone. Raises ConversionFailed if the two cannot be one.
    """
    model, behind = onnx.load(encoder), onnx.load(head)
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < _LEAST_OPSET:
        raise ConversionFailed(
            f"the encoder is of operator set {opset}, which is too old", hint=f"export it with {_LEAST_OPSET} or later"
        )
    outputs = [copy.deepcopy(each) for each in behind.graph.output]
    (given,) = (each.name for each in behind.graph.input)
    kept = {each.name for each in outputs}

    def named(name: str) -> str:
        return vector if name == given else name if name in kept or not name else _PREFIX + name

    for node in behind.graph.node:
        node.input[:] = [named(each) for each in node.input]
        node.output[:] = [named(each) for each in node.output]
        node.name = _PREFIX + node.name
    for weight in behind.graph.initializer:
        weight.name = named(weight.name)
    for node in model.graph.node:  # what the encoder calls as the head calls its answers
        for names in (node.input, node.output):
            names[:] = [f"encoder/{each}" if each in kept else each for each in names]
    for weight in model.graph.initializer:
        weight.name = f"encoder/{weight.name}" if weight.name in kept else weight.name
    del model.graph.output[:], model.graph.value_info[:]
    model.graph.node.extend(behind.graph.node)
    model.graph.initializer.extend(behind.graph.initializer)
    model.graph.output.extend(outputs)
    model.ir_version = max(model.ir_version, behind.ir_version)
    _save(model, encoder)


def _save(model: Any, path: Path) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        first = str(error).splitlines()[0]
        raise ConversionFailed(f"encoder and head cannot be one graph: {first[:300]}", hint="") from error
    path.write_bytes(model.SerializeToString(deterministic=True))
