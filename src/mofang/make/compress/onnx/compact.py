"""The same graph in fewer bytes: short names inside it, and numbers as they lie in memory.

Of a small model in integers names are a fifth of its bytes, and nobody reads them. Numbers that are written one by one
take up to ten bytes each, if they are negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product
from string import ascii_lowercase
from typing import Any

from onnx import AttributeProto, TensorProto, numpy_helper

_PLAIN = (TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64)


def compact(model: Any) -> Any:
    """Return ``model`` with short names of all tensors but its inputs and outputs, and without others; in place.

    Graphs with graphs or functions in them, which share names, keep theirs.
    """
    graph = model.graph
    for each in graph.initializer:
        if not each.HasField("raw_data") and each.data_type in _PLAIN and not each.external_data:
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each), each.name))
    if model.functions or any(
        each.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for node in graph.node for each in node.attribute
    ):
        return model
    kept = {each.name for each in (*graph.input, *graph.output)}
    named = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output) if name)
    words = (word for word in _words() if word not in kept)
    short = {"": "", **{name: name if name in kept else next(words) for name in named}}
    for node in graph.node:
        node.ClearField("name")
        node.ClearField("doc_string")
        for names in (node.input, node.output):
            names[:] = [short[name] for name in names]
    read = [each for each in graph.initializer if each.name in short]
    for each in read:
        each.name = short[each.name]
    del graph.value_info[:], graph.initializer[:]
    graph.initializer.extend(read)
    return model


def _words() -> Iterator[str]:
    """Give a, b, ... z, aa, ab, ..."""
    return ("".join(letters) for length in count(1) for letters in product(ascii_lowercase, repeat=length))
