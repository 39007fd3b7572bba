"""Pruning: the least important channels, units and heads cut out of a network, or its smallest weights made zero.

Importance is measured on training rows: how much the loss would change without a unit, by the first term of its Taylor
series, squared and summed over batches (Molchanov et al., 2019). Every group loses the same share; training afterwards
evens out what one group lacks. Zeros save space only where files are compressed: no engine here skips them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofang.base.domain.errors import NoVariant
from mofang.make.compress.step import Prune
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.torch.groups import Group, groups
from mofang.make.train.torch.batches import Batches, Prepared
from mofang.make.train.torch.loop import Loss
from mofang.make.train.torch.network import Net, shaped
from mofang.make.train.torch.train import loss_of

_BATCHES, _BATCH_ROWS, _LEAST_ROWS = 24, 128, 8  # that importance is measured on
_BATCH_NUMBERS = 1_000_000  # of a batch, at most: of large images a few tell enough
_MULTIPLE = 4  # of units that wide layers keep: what a vector instruction takes at once


def prune(step: Prune, subject: Subject, means: Means) -> Subject:
    """Return ``subject`` with its share of channels or weights gone. Raises NoVariant if it has none that could go."""
    if step.what == "weights":
        net = zeroed(subject.model, step.share)
    else:
        assert means.examples is not None
        batches = Prepared(means.examples, np.arange(len(means.examples.target)))
        found = groups(subject.model)
        loss = loss_of(subject.model.plan.spec, means.examples.target)

        def watch(share: float) -> None:
            means.progress.report("compress", share, f"which channels matter, measured on training rows: {share:.0%}")

        scores = importance(subject.model, found, batches, loss, means.seed, watch)
        net = without(subject.model, found, [least(each, step.share) for each in scores])
    return replace(subject, folder=None, model=net)


def importance(
    net: Net,
    found: Sequence[Group],
    batches: Batches,
    loss: Loss,
    seed: int = 0,
    watch: Callable[[float], None] = lambda share: None,
) -> tuple[NDArray[np.float64], ...]:
    """Return how much each unit of each group matters [units], in no particular scale, on some of ``batches``.

    Between any two of them ``watch`` is called with the share that is done.
    """
    net = copy.deepcopy(net).eval()
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
    scores = [np.zeros(group.units) for group in found]
    parameters = dict(net.named_parameters())
    rows = min(_BATCH_ROWS, max(_LEAST_ROWS, _BATCH_NUMBERS // net.plan.features))
    chosen = order[: _BATCHES * rows].split(rows)
    for number, index in enumerate(chosen):
        watch(number / len(chosen))
        net.zero_grad()
        loss(net, *batches.take(index, None)).backward()
        effects = {name: (value * value.grad).detach() for name, value in parameters.items() if value.grad is not None}
        for score, group in zip(scores, found, strict=True):
            score += _effect(group, effects) ** 2
    return tuple(scores)


def least(scores: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Return the units of the lowest ``scores``, about ``share`` of all; at least one unit is left."""
    kept = max(1, round(len(scores) * (1 - share)))
    if len(scores) >= 2 * _MULTIPLE:
        kept = max(_MULTIPLE, round(kept / _MULTIPLE) * _MULTIPLE)
    return np.argsort(scores, kind="stable")[: len(scores) - kept]


def without(net: Net, found: Sequence[Group], units: Sequence[NDArray[np.int64]]) -> Net:
    """Return a copy of ``net`` without some ``units`` of each group, narrower where they were.

    Raises NoVariant if none of them is to go.
    """
    if not any(len(each) for each in units):
        raise NoVariant("no layer is wide enough to lose that share", hint="prune a larger share")
    weights = net.state_dict()
    gone: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for group, those in zip(found, units, strict=True):
        for cut in group.cuts:
            mask = gone.setdefault((cut.tensor, cut.axis), np.zeros(weights[cut.tensor].shape[cut.axis], bool))
            mask[cut.places[those].ravel()] = True
    for (name, axis), mask in gone.items():
        weights[name] = weights[name].index_select(axis, torch.from_numpy(np.flatnonzero(~mask)))
    return shaped(net.plan, weights)


def zeroed(net: Net, share: float) -> Net:
    """Return a copy of ``net`` with the smallest ``share`` of the weights of each layer at zero (Han et al., 2015)."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim > 1:
                smallest = value.abs().flatten().kthvalue(max(1, round(share * value.numel()))).values
                value[value.abs() <= smallest] = 0
    return net


def _effect(group: Group, effects: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Return the sum of ``effects`` of all weights of each unit [units]."""
    total = np.zeros(group.units)
    for cut in group.cuts:
        if cut.tensor in effects:
            effect = effects[cut.tensor]
            others = tuple(axis for axis in range(effect.ndim) if axis != cut.axis)
            along = effect.double().cpu().numpy().sum(axis=others)
            total += along[cut.places].sum(axis=1)
    return total
