"""Layers that are to stay in float beside others in integers: kept from the engine, which would round them.

ONNX Runtime quantises the float weights of every Conv and Gemm that is given dequantised numbers, with one scale for
all channels (its optimiser `WeightBiasQuantization`), as it loads a graph. It passes over those whose input has a scale
for each channel: so the input of a layer that is to stay as it is gets one, the same for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def left_in_float(model: Any) -> Any:
    """Return ``model`` with layers of float weights that stay so in ONNX Runtime; in place."""
    graph = model.graph
    weights = {each.name: each for each in graph.initializer if each.data_type == TensorProto.FLOAT}
    known = {each.name: each for each in graph.initializer}
    sources = {name: node for node in graph.node for name in node.output}
    nodes: list[Any] = []
    for node in graph.node:
        source = sources.get(node.input[0]) if node.input else None
        if node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[1] in weights and _is_plain(source, known):
            nodes.append(_apart(node, source, weights[node.input[1]], known, graph))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _is_plain(source: Any, known: Mapping[str, Any]) -> bool:
    """Tell whether ``source`` dequantises with one constant scale."""
    if source is None or source.op_type != "DequantizeLinear" or not set(source.input[1:]) <= known.keys():
        return False
    return all(int(np.prod(known[name].dims)) == 1 for name in source.input[1:])


def _apart(node: Any, source: Any, weight: Any, known: Mapping[str, Any], graph: Any) -> Any:
    """Let ``node`` be given what ``source`` gives by another node, which is returned, with a scale for each channel."""
    channels, name = _inputs(node, weight), f"{node.name}_given"
    each: list[str] = []
    for part in source.input[1:]:
        values = np.full(channels, numpy_helper.to_array(known[part]).item(), numpy_helper.to_array(known[part]).dtype)
        each.append(f"{name}_{len(each)}")
        graph.initializer.append(numpy_helper.from_array(values, each[-1]))
    node.input[0] = name
    return helper.make_node("DequantizeLinear", [source.input[0], *each], [name], name=f"{name}_in_float", axis=1)


def _inputs(node: Any, weight: Any) -> int:
    """Return how many channels ``node`` is given."""
    attributes = {each.name: each.i for each in node.attribute}
    if node.op_type == "Gemm":
        return int(weight.dims[1 if attributes.get("transB", 0) else 0])
    return int(weight.dims[0] if node.op_type == "ConvTranspose" else weight.dims[1] * attributes.get("group", 1))
