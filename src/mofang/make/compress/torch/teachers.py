"""What a student learns from: examples, each with what a teacher says of it.

A teacher is a network, or any model that an engine answers for. It is asked about the very rows that the student sees:
where images are augmented, about the augmented ones (Beyer et al., 2022), else about every row once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mofang.base.domain.work import Progress, Silent
from mofang.base.engines.base import Engine
from mofang.make.evaluate.suite import predict, predict_numbers
from mofang.make.prepare.dataset import Examples
from mofang.make.prepare.feed import feed
from mofang.make.train.torch.batches import Prepared
from mofang.make.train.torch.network import Net

Teacher = Callable[[Examples, Progress], Tensor]
"""Examples [n] to what it says of them, float32 [n, k]: logits of the classes, or a number in units of the target; and
after them what its last layer was given, if a student is to have hints."""

_LEAST_BELIEF = 1e-4  # in a class: below it a forest has no more trees to tell
_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A network as a teacher."""

    net: Net
    hints: bool = False

    def __call__(self, examples: Examples, progress: Progress) -> Tensor:
        """See :data:`Teacher`."""
        rows = torch.from_numpy(examples.prepared().reshape(len(examples.features), -1))
        device = next(self.net.parameters()).device
        return torch.cat([self._say(part.to(device)).cpu() for part in rows.split(_ROWS_AT_ONCE)])

    def _say(self, rows: Tensor) -> Tensor:
        with torch.no_grad(), Given(self.net) as given:
            found = self.net(rows).reshape(len(rows), -1).float()
        if not self.net.plan.classes:
            found = found * self.net.target_deviation + self.net.target_mean
        return torch.cat([found, given.rows], dim=1) if self.hints else found


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Whatever an engine answers for, as a teacher: nothing of it is known but its answers."""

    engine: Engine

    def __call__(self, examples: Examples, progress: Progress) -> Tensor:
        """See :data:`Teacher`; a model that tells no probabilities is believed entirely."""
        inputs, labels = feed(examples, self.engine.signature), examples.schema.labels
        if not labels:
            return torch.from_numpy(predict_numbers(self.engine, inputs, progress)[0]).float()[:, None]
        found = predict(self.engine, inputs, labels, progress)
        beliefs = np.eye(len(labels))[found.classes] if found.probabilities is None else found.probabilities
        return torch.from_numpy(np.log(np.clip(beliefs, _LEAST_BELIEF, None))).float()


class Given:
    """Within it, ``rows`` is what the last linear layer of ``net`` was given last [b, f]."""

    rows: Tensor

    def __init__(self, net: nn.Module) -> None:
        *_, last = (module for module in net.modules() if isinstance(module, nn.Linear))
        self._hook = last.register_forward_pre_hook(lambda _, given: setattr(self, "rows", given[0]))

    def __enter__(self) -> Given:
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """Batches whose target is [b, 1 + k]: the target of the examples, then what the ``teacher`` says."""

    known: Prepared
    teacher: Teacher
    said: Tensor | None = None  # of all examples of ``known``, where they are always the same

    def __len__(self) -> int:
        return len(self.known)

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """See :class:`mofang.make.train.torch.batches.Batches`."""
        random = None if seed is None else np.random.default_rng(seed)
        some = self.known.examples.some(self.known.index[index.numpy()], random)
        said = self.teacher(some, Silent()) if self.said is None else self.said[index]
        rows = some.prepared().reshape(len(index), -1)
        return torch.from_numpy(rows), torch.cat([_column(some.target), said.double()], dim=1)

    def fingerprint(self) -> str:
        """See :class:`mofang.make.train.torch.batches.Batches`."""
        return self.known.fingerprint()


def lessons(known: Prepared, teacher: Teacher, progress: Progress) -> Lessons:
    """Return what to learn from, with all of the teacher's answers where rows do not change from epoch to epoch."""
    examples = known.examples
    if examples.augmentation and examples.schema.shape:
        return Lessons(known, teacher)
    return Lessons(known, teacher, teacher(examples.some(known.index), progress))


def _column(target: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(target.astype(np.float64))[:, None]
