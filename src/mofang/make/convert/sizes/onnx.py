"""Opens the dimensions of graphs from an exporter that writes every size down: two exports show where each stands.

Called by openers on the bench. What comes out is only likely to be right: the parity proof tries other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from mofang.base.domain.errors import ConversionFailed

_KNOWN_FROM_THE_REST = -1  # of one size that Reshape is given


def read(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """Return the model at ``path``, its inputs and outputs called so, and all else numbered.

    The same network gives the same names, whatever the exporter counted before.
    """
    model = onnx.load(path)
    graph = model.graph
    del graph.value_info[:]
    if (len(graph.input), len(graph.output)) != (len(inputs), len(outputs)):
        raise ConversionFailed(
            f"the exported graph takes {len(graph.input)} tensors and gives {len(graph.output)}, the model takes "
            f"{len(inputs)} and gives {len(outputs)}"
        )
    names = {"": ""}
    for index, each in enumerate(graph.initializer):
        names[each.name] = each.name = f"constant {index}"
    for index, node in enumerate(graph.node):
        names |= {each: f"value {index}.{at}" for at, each in enumerate(node.output) if each}
        node.name, node.doc_string = f"node {index}", ""
    for each, name in zip(graph.input, inputs, strict=True):
        names[each.name] = each.name = name
    for node in graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
    for each, name in zip(graph.output, outputs, strict=True):  # one value may be several outputs, or an input
        graph.node.append(onnx.helper.make_node("Identity", [names.get(each.name, each.name)], [name], f"named {name}"))
        each.name = name
    return model


def open_sizes(model: Any, other: Any) -> None:
    """Open in ``model`` what is otherwise in ``other``, the same network at other sizes.

    Raises ConversionFailed where a size went into something that cannot be opened.
    """
    first, second = model.graph, other.graph
    if [_outline(node) for node in first.node] != [_outline(node) for node in second.node]:
        raise ConversionFailed("the exported graph has another form for other sizes of its open dimensions")
    for ours, theirs in zip((*first.input, *first.output), (*second.input, *second.output), strict=True):
        _open_dimensions(ours, theirs)
    for ours, theirs in zip(_constants(first), _constants(second), strict=True):
        if ours[1].SerializeToString() != theirs[1].SerializeToString():
            _open_constant(first, *ours, numpy_helper.to_array(theirs[1]))


def _outline(node: Any) -> tuple[Any, ...]:
    attributes = [each.SerializeToString() for each in node.attribute if node.op_type != "Constant"]
    return node.op_type, tuple(node.input), tuple(node.output), tuple(attributes)


def _open_dimensions(ours: Any, theirs: Any) -> None:
    pairs = zip(ours.type.tensor_type.shape.dim, theirs.type.tensor_type.shape.dim, strict=True)
    for axis, (size, another) in enumerate(pairs):
        if size.dim_value != another.dim_value:
            size.dim_param = f"{ours.name} {axis}" if axis else "n"


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    yield from ((each.name, each) for each in graph.initializer)
    yield from ((node.output[0], node.attribute[0].t) for node in graph.node if node.op_type == "Constant")


def _open_constant(graph: Any, name: str, constant: Any, another: np.ndarray[Any, Any]) -> None:
    """Open the one size that differs, if all that reads it is Reshape, which finds it by the others."""
    sizes = numpy_helper.to_array(constant).copy()
    readers = [node.op_type for node in graph.node if name in node.input]
    shapes = sizes.dtype == np.int64 and sizes.shape == another.shape and set(readers) == {"Reshape"}
    if not shapes or np.count_nonzero(sizes != another) != 1:
        raise ConversionFailed(
            f"a size of the open dimensions went into {', '.join(sorted(set(readers)))}, where it cannot be opened",
            hint="export the model with the sizes it shall be served at",
        )
    sizes[sizes != another] = _KNOWN_FROM_THE_REST
    constant.CopyFrom(numpy_helper.from_array(sizes, constant.name))
