"""The same preparation inside the served graph: what clients send becomes what the model was trained on.

Called by the pipeline with the graph of a converter, whose one input takes scaled numbers. Nodes are put before it, so
that training and serving cannot drift apart; the parity proof then compares the whole with numpy's way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.prepare.dataset import Schema

IMAGE = "image"  # the input that takes files
IMAGE_KEY = "mofang.image"  # metadata of a graph: which input takes PNG or JPEG files, decoded by the engine
_PREPARED = "prepared"


def complete(folder: Path, signature: Signature, schema: Schema, *, image: bool) -> Signature:
    """Put the preparation of ``schema`` before ``folder/model.onnx``; return the new signature.

    ``image``: the model takes files, else the numbers of ``signature``, unscaled. Raises ConversionFailed if the data
    are no images.
    """
    if image and not schema.shape:
        raise ConversionFailed("[convert] input is 'image', but the data are no images", hint="leave it out")
    if not image and schema.scaling is None:
        return signature
    path = folder / "model.onnx"
    model = onnx.load(path)
    (known,) = signature.inputs
    inner = known.shape[1:]
    nodes, constants = _Nodes(), _scaling(schema, inner)
    if image:
        given = helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["n", *schema.shape])
        value = nodes.add("Cast", [IMAGE], to=TensorProto.FLOAT)
        if inner != schema.shape:
            value = nodes.add("Reshape", [value, nodes.constant("inner_shape", np.array([-1, *inner], np.int64))])
        model.metadata_props.add(key=IMAGE_KEY, value=IMAGE)
        spec = TensorSpec(IMAGE, "BYTES", (-1,))
    else:
        given, value, spec = (
            helper.make_tensor_value_info(known.name, TensorProto.FLOAT, ["n", *inner]),
            known.name,
            known,
        )
    for operator, constant in constants:
        value = nodes.add(operator, [value, nodes.constant(f"{operator.lower()}_by", constant)])
    _put_before(model.graph, known.name, nodes, value, given)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return replace(signature, inputs=(spec,))


class _Nodes:
    """Nodes and constants to put before a graph, under names of their own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        name = f"prepare_{len(self.nodes)}_{operator.lower()}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant; return its name."""
        self.constants.append(numpy_helper.from_array(value, f"prepare_{name}"))
        return f"prepare_{name}"


def _scaling(schema: Schema, inner: tuple[int, ...]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return what to subtract and to divide by, in a shape that meets rows of shape ``inner``."""
    if schema.scaling is None:
        return []
    constants = [
        ("Sub", np.array(schema.scaling.offset, np.float32)),
        ("Div", np.array(schema.scaling.scale, np.float32)),
    ]
    if inner == schema.shape and len(inner) == 3:  # the last axis is the channel
        return constants
    shape = schema.shape or (schema.features,)
    channels = shape if len(shape) != 2 else (*shape, 1)
    return [
        (name, value if len(value) == 1 else np.broadcast_to(value, channels).reshape(inner).copy())
        for name, value in constants
    ]


def _put_before(graph: Any, name: str, nodes: _Nodes, value: str, given: Any) -> None:
    """Let whoever reads input ``name`` of the graph read ``value`` instead, and the graph take ``given``."""
    for node in graph.node:
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = value
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes.nodes, *kept])
    graph.initializer.extend(nodes.constants)
    others = [each for each in graph.input if each.name != name]
    del graph.input[:]
    graph.input.extend([given, *others])
