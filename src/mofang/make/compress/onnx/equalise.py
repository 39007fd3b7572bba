"""Before integers: channels of one tensor made equally large, and what rounding shifts put right.

A tensor has one scale for all its channels. Where one is a hundred times as large as another, nothing is left of the
smaller. Between two convolutions a channel may be multiplied by any number, if the weights that read it are divided by
it: the network computes the same, and every channel uses the whole range (after Nagel et al., 2019, who equalise
weights). A ReLU6 cuts at six whatever the scale, so that channels behind it are made larger only as far as none was
seen to reach its cut.

Rounded weights shift the mean of what a channel computes, since its inputs are seldom zero on average. The shift is
known from the mean of the inputs, and is taken from the bias.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.onnx.channels import Channels, largest_of, means_of
from mofang.make.compress.subject import Means

_SPARE = 2.0  # times what was seen, until a channel behind a cut is cut
_MOST = 64.0  # times as large as it was
_KEPT = {
    "Clip", "Relu", "LeakyRelu", "ReduceMean", "GlobalAveragePool", "MaxPool", "AveragePool", "Flatten", "Reshape",
}  # fmt: skip
"""Operators that answer channel by channel, if they do not reach over channels."""
_LARGEST = 127  # of an integer weight


def equalised(model: Any, means: Means) -> Any:
    """Return a copy of ``model`` that computes the same, with channels as equally large as they can be.

    Raises NoVariant if there are none that could be changed.
    """
    made = copy.deepcopy(model)
    factors = _factors(made, means)
    if not any((each > 1).any() for each in factors.values()):
        raise NoVariant("there are no channels to make equally large: none that weights alone compute and read")
    weights = {each.name: each for each in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        if (told := factors.get(node.input[0])) is not None:
            _scale_reads(weights[node.input[1]], node, told)
        if (asked := factors.get(node.output[0])) is not None:
            for number, name in enumerate(filter(None, node.input[1:])):
                _scale_computes(weights[name], node, asked, bias=number == 1)
    return made


def corrected(model: Any, layers: Collection[str], means: Means) -> Any:
    """Return a copy of ``model`` with the biases of its convolutions ``layers`` corrected for integer weights."""
    made = copy.deepcopy(model)
    weights = {each.name: each for each in made.graph.initializer}
    chosen = [
        node for node in made.graph.node if node.op_type == "Conv" and node.name in layers and len(node.input) > 2
    ]
    known = means_of(model, {node.input[0] for node in chosen}, means)
    for node in chosen:
        bias = weights.get(node.input[2])
        if bias is not None and node.input[0] in known:
            shift = _shift(
                numpy_helper.to_array(weights[node.input[1]]), known[node.input[0]], _attribute(node, "group", 1)
            )
            _put(bias, numpy_helper.to_array(bias) - shift)
    return made


def _shift(weight: NDArray[np.float32], inputs: Channels, groups: int) -> Channels:
    """Return by how much rounded ``weight`` [out, in / groups, ...] changes the mean of each output [out]."""
    axes = tuple(range(1, weight.ndim))
    scale = np.maximum(np.abs(weight).max(axis=axes, keepdims=True) / _LARGEST, 1e-12)
    wrong = (np.rint(weight / scale) * scale - weight).sum(axis=tuple(range(2, weight.ndim)))  # [out, in / groups]
    parts = zip(np.split(wrong, groups), np.split(inputs, groups), strict=True)
    return np.concatenate([part @ told for part, told in parts])


def _factors(model: Any, means: Means) -> dict[str, Channels]:
    """Return by what each channel of a tensor is to be multiplied; tensors that are added have the same factors."""
    sets = [*_alike(model)]
    cuts = {node.output[0] for node in model.graph.node if node.op_type == "Clip"}
    largest = largest_of(model, {name for each in sets for name in each}, means)
    found: dict[str, Channels] = {}
    for names in sets:
        known = [largest[name] for name in names & cuts or names if name in largest]
        if not known or len({len(each) for each in known}) > 1:
            continue
        most, spare = np.max(known, axis=0), _SPARE if names & cuts else 1.0
        factor = np.clip(most.max() / np.maximum(most * spare, 1e-12), 1, _MOST).astype(np.float32)
        found |= dict.fromkeys(names, factor)
    return found


def _alike(model: Any) -> Iterator[set[str]]:
    """Give sets of tensors whose channels must be multiplied alike; none that others than weights read or compute."""
    graph = model.graph
    reads = Counter(name for node in graph.node for name in node.input)
    constants = {each.name: each for each in graph.initializer}
    fixed = {each.name for each in (*graph.input, *graph.output)}
    sets: dict[str, set[str]] = {}
    for node in graph.node:
        names = [name for name in (*node.input, *node.output) if name and name not in constants]
        if _has_own_weights(node, constants, reads):
            alike = []
        elif node.op_type in _KEPT and _keeps_channels(node, model, constants):
            alike = [node.input[0], node.output[0]]
        elif node.op_type == "Add" and not set(node.input) & constants.keys():
            alike = names
        else:
            fixed |= set(names)
            alike = []
        joined = set(alike).union(*(sets.get(name, {name}) for name in alike))
        sets |= {name: {name} for name in names if name not in sets} | dict.fromkeys(joined, joined)
    distinct = {id(each): each for each in sets.values()}
    return (each for each in distinct.values() if not each & fixed)


def _has_own_weights(node: Any, constants: Mapping[str, Any], reads: Mapping[str, int]) -> bool:
    """Tell whether a node multiplies with constants that no other node reads."""
    if node.op_type not in ("Conv", "Gemm") or _attribute(node, "transA", 0):
        return False
    return all(name in constants and reads[name] == 1 for name in node.input[1:] if name)


def _keeps_channels(node: Any, model: Any, constants: Mapping[str, Any]) -> bool:
    """Tell whether multiplied channels come out of ``node`` multiplied."""
    if node.op_type == "Clip":
        lowest = constants.get(node.input[1]) if len(node.input) > 1 else None
        return lowest is not None and not numpy_helper.to_array(lowest).any()
    shapes = {
        each.name: [size.dim_value for size in each.type.tensor_type.shape.dim] for each in model.graph.value_info
    }
    before, after = (shapes.get(name, []) for name in (node.input[0], node.output[0]))
    if node.op_type in ("Reshape", "Flatten"):
        return len(after) == 2 and len(before) > 2 and before[1] == after[1] > 0
    if node.op_type == "ReduceMean":
        return len(before) == len(after) > 2 and before[1] == after[1] > 1
    return True


def _scale_reads(tensor: Any, node: Any, factors: Channels) -> None:
    """Divide the weights that read channels by the ``factors`` of those."""
    values = numpy_helper.to_array(tensor)
    if node.op_type == "Gemm":
        _put(tensor, values / (factors if _attribute(node, "transB", 0) else factors[:, None]))
        return
    groups = _attribute(node, "group", 1)
    parts = values.reshape(groups, len(values) // groups, values.shape[1], -1)
    _put(tensor, (parts / factors.reshape(groups, 1, -1, 1)).reshape(values.shape))


def _scale_computes(tensor: Any, node: Any, factors: Channels, *, bias: bool) -> None:
    """Multiply the weights, or the bias, that compute channels by the ``factors`` of those."""
    values = numpy_helper.to_array(tensor)
    along = values.ndim - 1 if bias or (node.op_type == "Gemm" and not _attribute(node, "transB", 0)) else 0
    _put(tensor, values * factors.reshape([-1 if axis == along else 1 for axis in range(values.ndim)]))


def _put(tensor: Any, values: NDArray[Any]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def _attribute(node: Any, name: str, default: int) -> int:
    return next((each.i for each in node.attribute if each.name == name), default)
