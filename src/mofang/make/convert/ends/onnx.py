"""Other names, datatypes and shapes for the inputs and outputs of a graph; what it computes between them stays.

Called by the pipeline on a folder of its own, for what the one who pushes or edits a version wishes. It must not know
versions: a changed graph has other bytes, and so is another version by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import NUMPY, Datatype
from mofang.make.convert.onnx import MODEL_FILE, parse
from mofang.make.prepare.onnx import IMAGE_KEY


def change_ends(
    folder: Path,
    names: Mapping[str, str],
    datatypes: Mapping[str, Datatype],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    """Give ends of ``folder/model.onnx`` other names, then, by those, other datatypes and shapes (-1: still open).

    Raises InvalidModel for a name that is not there, or taken; a datatype that would lose values; a shape that does not
    narrow the one there is.
    """
    model = parse(folder / MODEL_FILE)
    pictures = [each for each in model.metadata_props if each.key == IMAGE_KEY]
    for each in pictures:
        each.value = names.get(each.value, each.value)
        if each.value in {*datatypes, *shapes}:
            raise InvalidModel(
                f"input {each.value!r} takes files of pictures, which are decoded to what the graph takes",
                hint="train or export the network anew for another size of pictures",
            )
    for old, new in names.items():
        _rename(model.graph, old, new)
    for name, shape in shapes.items():
        _narrow(model.graph, name, shape)
    for name, datatype in datatypes.items():
        _cast(model.graph, name, datatype)
    path = folder / MODEL_FILE
    path.unlink()  # the file may be a link to the object that was pushed, which never changes
    path.write_bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any, old: str, new: str) -> None:
    ends = {each.name for each in (*graph.input, *graph.output)}
    if old not in ends or new in _inside(graph) | ends or not new or not new.isprintable():
        raise InvalidModel(
            f"{old!r} cannot be called {new!r}: the model's inputs and outputs are {', '.join(sorted(ends))}",
            hint="write `--rename OLD=NEW`, with a name that the model does not use yet",
        )
    for each in graph.input:
        if each.name == old:
            each.name = new
            graph.node.insert(0, onnx.helper.make_node("Identity", [new], [old]))
    for each in graph.output:
        if each.name == old:
            each.name = new
            graph.node.append(onnx.helper.make_node("Identity", [old], [new]))


def _inside(graph: Any) -> set[str]:
    return {*(each.name for each in graph.initializer), *(each for node in graph.node for each in node.output)}


# --- datatypes ----------------------------------------------------------------------------------------------------


def _cast(graph: Any, name: str, datatype: Datatype) -> None:
    """Let the end ``name`` be of ``datatype``: a Cast stands between it and the graph."""
    end, is_input = _end(graph, name)
    tensor = end.type.tensor_type
    here, wished = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), NUMPY[datatype]
    if here == wished:
        return
    source, target = (wished, here) if is_input else (here, wished)
    if "O" in (here.kind, wished.kind) or not (
        np.can_cast(source, target, "safe") or (source.kind, target.kind) == ("f", "f")
    ):
        raise InvalidModel(
            f"{'input' if is_input else 'output'} {name!r} cannot be {datatype}: the graph "
            f"{'takes' if is_input else 'gives'} {here.name}, and {source.name} does not go into {target.name} whole",
            hint="choose a datatype whose values all fit; one of floating point may become another, which rounds",
        )
    inner = _free_name(graph, name)
    _call(graph.node, name, inner)
    if is_input:
        graph.node.insert(0, onnx.helper.make_node("Cast", [name], [inner], to=tensor.elem_type))
    else:
        to = onnx.helper.np_dtype_to_tensor_dtype(wished)
        graph.node.append(onnx.helper.make_node("Cast", [inner], [name], to=to))
    tensor.elem_type = onnx.helper.np_dtype_to_tensor_dtype(wished)


def _free_name(graph: Any, name: str) -> str:
    taken = _inside(graph)
    numbered = (f"{name}/cast{'' if number == 0 else number}" for number in range(len(taken) + 1))
    return next(each for each in numbered if each not in taken)


def _call(nodes: Any, old: str, new: str) -> None:
    """Let every node that reads or writes the value ``old`` call it ``new``, those of loops and branches too."""
    for node in nodes:
        node.input[:] = [new if each == old else each for each in node.input]
        node.output[:] = [new if each == old else each for each in node.output]
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _call(graph.node, old, new)
                for each in graph.output:
                    each.name = new if each.name == old else each.name


# --- shapes -------------------------------------------------------------------------------------------------------


def _narrow(graph: Any, name: str, shape: tuple[int, ...]) -> None:
    """Fix open dimensions of the input ``name``; where others share one by its name, there too."""
    end, is_input = _end(graph, name)
    if not is_input:
        raise InvalidModel(
            f"{name!r} is an output, and its shape follows from the inputs'", hint="give the shape of an input"
        )
    here = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in end.type.tensor_type.shape.dim)
    if len(here) != len(shape) or any(old not in (-1, new) for old, new in zip(here, shape, strict=True)):
        told = ["[" + ", ".join("n" if size < 0 else str(size) for size in each) + "]" for each in (here, shape)]
        raise InvalidModel(
            f"input {name!r} is {told[0]} in the graph, and cannot become {told[1]}",
            hint="give every dimension: an open one (n) may be fixed, a fixed one stays; for more, export it again",
        )
    for dim, size in zip(list(end.type.tensor_type.shape.dim), shape, strict=True):
        if size >= 0 and not dim.HasField("dim_value"):
            symbol = dim.dim_param
            dim.dim_value = size
            for other in _dims(graph):
                if symbol and other.dim_param == symbol:
                    other.dim_value = size
    del graph.value_info[:]  # what was inferred of open dimensions


def _dims(graph: Any) -> Iterator[Any]:
    for each in (*graph.input, *graph.output):
        yield from each.type.tensor_type.shape.dim


def _end(graph: Any, name: str) -> tuple[Any, bool]:
    """Return the input or output ``name``, and whether it is an input."""
    inputs = {each.name: each for each in graph.input}
    outputs = {each.name: each for each in graph.output}
    if name not in inputs and name not in outputs:
        raise InvalidModel(
            f"{name!r} is neither an input nor an output", hint=f"there are: {', '.join([*inputs, *outputs])}"
        )
    return (inputs[name], True) if name in inputs else (outputs[name], False)
