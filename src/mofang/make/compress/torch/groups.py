"""What of a network can go as one: a channel, a head, a remembered number, with every weight that belongs to it.

Pruning asks :func:`groups` and looks at nothing else. Channels and units are followed through the layers by the
dependency graph of torch-pruning (Fang et al., 2023); heads and recurrent cells, which it does not see, have rules of
their own here.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mofang.base.domain.errors import ExtraMissing, NoVariant
from mofang.make.train.torch.layers import Attention, Encoder, Recurrent
from mofang.make.train.torch.network import Net

_GATES = {"lstm": 4, "gru": 3}
_NORMALISED = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Where units lie in one tensor: unit u has the indices ``places[u]`` [k] of ``axis`` of ``tensor``."""

    tensor: str  # name in the network's state
    axis: int
    places: NDArray[np.int64]  # [units, k]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Units of one sort, of which any can go: ``name`` is the layer that computes them."""

    name: str
    units: int
    cuts: tuple[Cut, ...]


def groups(net: Net) -> tuple[Group, ...]:
    """Return all that can go from ``net``; raise NoVariant if nothing can, ExtraMissing without torch-pruning."""
    if isinstance(net.body, Recurrent):
        found = tuple(_remembered(net.body))
    elif isinstance(net.body, Encoder):
        found = tuple(_heads_and_units(net.body))
    else:
        found = tuple(_channels(net))
    if not found:
        raise NoVariant("the network has no hidden channels, units or heads that could go")
    return found


# --- channels and units -------------------------------------------------------------------------------------------


def _channels(net: Net) -> Iterable[Group]:
    try:
        import torch_pruning
    except ModuleNotFoundError as error:
        raise ExtraMissing.of("following channels through a network", "torch-pruning", "torch") from error
    body = copy.deepcopy(net.body).cpu().float()
    names = {module: f"body.{name}" for name, module in body.named_modules()}
    layers = [module for module in names if isinstance(module, nn.Conv2d | nn.Linear)]
    graph = torch_pruning.DependencyGraph()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph.build_dependency(body, example_inputs=torch.zeros(2, *net.plan.shape))
        for found in graph.get_all_groups(ignored_layers=layers[-1:], root_module_types=[nn.Conv2d, nn.Linear]):
            yield _group(graph, found, names)


def _group(graph: Any, found: Any, names: dict[nn.Module, str]) -> Group:
    units = len(found[0].root_idxs)
    cuts: list[Cut] = []
    for item in found:
        layer = item.dep.target.module
        order = np.argsort(item.root_idxs, kind="stable")
        places = np.asarray(item.idxs, np.int64)[order].reshape(units, -1)
        computes = graph.is_out_channel_pruning_fn(item.dep.handler)
        cuts += [Cut(f"{names[layer]}.{tensor}", axis, places) for tensor, axis in _touched(layer, computes=computes)]
    return Group(names[found[0].dep.target.module], units, tuple(cuts))


def _touched(layer: Any, *, computes: bool) -> list[tuple[str, int]]:
    """Return tensors and axes of ``layer`` that have a place for each channel it computes, or else is given."""
    if isinstance(layer, nn.BatchNorm2d):
        return [(name, 0) for name in _NORMALISED]
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return []
    if not computes:
        return [("weight", 1)]
    return [("weight", 0)] if layer.bias is None else [("weight", 0), ("bias", 0)]


# --- heads and the units between two linear layers ----------------------------------------------------------------


def _heads_and_units(body: Encoder) -> Iterable[Group]:
    for number, layer in enumerate(body.layers):
        name = f"body.layers.{number}"
        yield _heads(layer.attention, f"{name}.attention")
        first, second = f"{name}.forward_layers.1", f"{name}.forward_layers.3"
        units = layer.forward_layers[1].out_features
        each = np.arange(units)[:, None]
        cuts = (Cut(f"{first}.weight", 0, each), Cut(f"{first}.bias", 0, each), Cut(f"{second}.weight", 1, each))
        yield Group(first, units, cuts)


def _heads(attention: Attention, name: str) -> Group:
    places = np.arange(attention.asks.out_features).reshape(attention.heads, -1)
    computed = [Cut(f"{name}.{part}.{tensor}", 0, places)
                for part in ("asks", "offers", "tells") for tensor in ("weight", "bias")]  # fmt: skip
    return Group(name, attention.heads, (*computed, Cut(f"{name}.joins.weight", 1, places)))


# --- numbers that a recurrent cell remembers ----------------------------------------------------------------------


def _remembered(body: Recurrent) -> Iterable[Group]:
    """Of every layer and direction; PyTorch wants them all alike, so as many must go from each."""
    cells = body.cells
    size, directions = cells.hidden_size, ["", "_reverse"][: 2 if body.both else 1]
    gates = np.arange(_GATES[cells.mode.lower()])[None] * size + np.arange(size)[:, None]
    for layer in range(cells.num_layers):
        for number, direction in enumerate(directions):
            own = f"{layer}{direction}"
            told = np.arange(size)[:, None]
            cuts = [Cut(f"body.cells.{kind}_l{own}", 0, gates)
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
            cuts.append(Cut(f"body.cells.weight_hh_l{own}", 1, told))
            if layer + 1 < cells.num_layers:
                readers = [f"body.cells.weight_ih_l{layer + 1}{reader}" for reader in directions]
            else:
                readers = ["body.head.1.weight"]
            cuts += [Cut(reader, 1, told + number * size) for reader in readers]
            yield Group(f"body.cells.l{own}", size, tuple(cuts))
