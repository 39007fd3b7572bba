"""Students of a network of which only answers are known: what they learn from those, and how they take its place.

Of probabilities a student learns beliefs (Hinton et al., 2015), of other numbers the numbers themselves, by their mean
squared error (Ba and Caruana, 2014): what a client makes of them nobody knows.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mofang.make.compress.onnx.graph import MODEL, prefixed
from mofang.make.compress.outside import Outside
from mofang.make.compress.step import Distil
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.torch.teach import answering, schedule, softened, taught, trained
from mofang.make.convert.ends.onnx import change_ends
from mofang.make.convert.torch import export
from mofang.make.train.torch.batches import Tensors
from mofang.make.train.torch.loop import Point
from mofang.make.train.torch.network import Net
from mofang.make.train.torch.train import answers

_ASIDE = 10  # one row of so many is kept aside, for the curve
_PREFIX = "student/"  # of all names in a graph, so that none is one of the original's
_LEAST_BELIEF = 1e-7


def imitate(step: Distil, subject: Subject, means: Means) -> Subject:
    """Return a student taught by the original, or by the teacher that ``step`` names; by labels too if there are any.

    Raises NoVariant if the teacher answers something else than the original.
    """
    outside = means.outside
    assert outside is not None
    means.progress.report("compress", 0.0, f"asking the teacher about {len(outside.rows):,} rows")
    with answering(step, means) as engine:
        said = torch.from_numpy(outside.ask(engine))
    subject = replace(subject, model=_scaled(subject.model, outside, said))
    if (made := trained(step, subject, means)) is not None:
        return made
    rows = torch.from_numpy(outside.examples().rows())
    labels = torch.from_numpy(outside.target) if len(outside.target) else torch.zeros(len(rows))
    target = torch.cat([labels.float()[:, None], said], dim=1)
    aside = torch.arange(len(rows)) % _ASIDE == 0
    known, checked = (Tensors(rows[part], target[part]) for part in (~aside, aside))
    spec = schedule(subject.model.plan.spec, step.epochs)
    return taught(subject, step, spec, known, _Likeness(outside, checked), _Lesson(outside, step), means)


def write(net: Net, outside: Outside, folder: Path) -> None:
    """Write ``net`` as ``folder/model.onnx``, with the inputs and outputs of the network that it takes the place of."""
    folder.mkdir(parents=True, exist_ok=True)
    example = {"given": torch.zeros(2, *outside.given.shape[1:])}
    export(_InPlace(copy.deepcopy(net), outside), example, ["told"], folder / MODEL)
    prefixed(folder, _PREFIX)
    change_ends(folder, {f"{_PREFIX}given": outside.given.name, f"{_PREFIX}told": outside.told.name}, {}, {})


def _scaled(net: Net, outside: Outside, said: Tensor) -> Net:
    """Return ``net`` with the scale of what it is to answer, if that is any numbers."""
    net = copy.deepcopy(net)
    if not outside.beliefs:
        net.target_mean.copy_(said.double().mean())
        net.target_deviation.copy_(said.double().std(correction=0).clamp(min=torch.finfo(torch.float32).eps))
    return net


class _InPlace(nn.Module):
    """A student that takes and answers what the original does."""

    def __init__(self, net: Net, outside: Outside) -> None:
        super().__init__()
        self._net, self._outside = net, outside

    def forward(self, given: Tensor) -> Tensor:
        """[n, d] or images to [n, k] or [n]."""
        net, outside = self._net, self._outside
        # Colours that lie first already need not be moved to the end and back.
        coloured = outside.channels_first and given.shape[1] > 1
        found = net.body(net.scale(given)) if coloured else net(given.flatten(1))
        said = torch.softmax(found, dim=1) if outside.beliefs else found * net.target_deviation + net.target_mean
        return said if len(outside.told.shape) > 1 else said.squeeze(1)


class _Lesson:
    """The loss of a student; its target is [b, 1 + k]: the class, if anybody knows it, and what the teacher told."""

    def __init__(self, outside: Outside, step: Distil) -> None:
        self._outside = outside
        self._temperature, self._soft = step.temperature, step.soft if len(outside.target) else 1.0

    def __call__(self, net: nn.Module, rows: Tensor, target: Tensor) -> Tensor:
        found, said = net(rows), target[:, 1:]
        if self._outside.beliefs:
            soft, scores = softened(found, said.clamp(min=_LEAST_BELIEF).log(), self._temperature), found
        else:
            soft = functional.mse_loss(found, (said - net.target_mean) / net.target_deviation)
            scores = found * net.target_deviation + net.target_mean
        if self._soft == 1:
            return soft
        return self._soft * soft + (1 - self._soft) * functional.cross_entropy(scores, target[:, 0].long())


class _Likeness:
    """How like the teacher's a student's answers are: how often it names the same class, or how much it explains."""

    def __init__(self, outside: Outside, checked: Tensors) -> None:
        self._outside, self._checked = outside, checked

    def __call__(self, net: nn.Module) -> Point:
        found, said = answers(net, self._checked.rows), self._checked.target[:, 1:]
        if self._outside.beliefs:
            same = (found.argmax(dim=1) == said.argmax(dim=1)).float().mean()
            return {"loss": float(functional.cross_entropy(found, said)), "accuracy": float(same)}
        off = found * net.target_deviation.cpu() + net.target_mean.cpu() - said
        spread = float(said.var(correction=0))
        loss = float(off.square().mean())
        return {"loss": loss, "r2": 1 - loss / spread if spread else 0.0}
