"""Tables that rows are looked up in, of words say: kept as 8-bit integers, with a scale for each row.

Such a table is often half of an encoder's bytes, and no product: integers of products leave it as it is.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_LEAST = 16_384  # numbers of a table that is worth it
_LARGEST = 127


def with_small_tables(model: Any) -> Any:
    """Return ``model`` with every large table of floats that one Gather looks rows up in as integers; in place."""
    graph = model.graph
    read = Counter(name for node in graph.node for name in node.input)
    tables = {each.name: each for each in graph.initializer if read[each.name] == 1 and _is_table(each)}
    nodes: list[Any] = []
    for node in graph.node:
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        if node.op_type != "Gather" or axis or node.input[0] not in tables:
            nodes.append(node)
            continue
        nodes += _looked_up(node, tables[node.input[0]], graph)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _is_table(tensor: Any) -> bool:
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and int(np.prod(tensor.dims)) >= _LEAST


def _looked_up(node: Any, table: Any, graph: Any) -> list[Any]:
    """Return what looks rows up in integers and their scales, and multiplies both."""
    values, name, (answer,) = numpy_helper.to_array(table), table.name, node.output
    scale = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / np.float32(_LARGEST)
    table.CopyFrom(numpy_helper.from_array(np.rint(values / scale).astype(np.int8), f"{name}_integers"))
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scales"))
    rows = node.input[1]
    return [
        helper.make_node("Gather", [f"{name}_integers", rows], [f"{answer}_integers"], name=f"{answer}_look_up"),
        helper.make_node("Cast", [f"{answer}_integers"], [f"{answer}_floats"], name=f"{answer}_cast", to=1),
        helper.make_node("Gather", [f"{name}_scales", rows], [f"{answer}_scales"], name=f"{answer}_look_up_scale"),
        helper.make_node("Mul", [f"{answer}_floats", f"{answer}_scales"], [answer], name=f"{answer}_scaled"),
    ]
