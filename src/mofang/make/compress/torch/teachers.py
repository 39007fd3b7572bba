"""What a student learns from: examples, each with what a teacher says of it.

A teacher is a network, or any model that an engine answers for. It is asked about the very rows that the student sees:
where images are augmented, about the augmented ones (Beyer et al., 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

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
from mofang.make.train.torch.loop import precision
from mofang.make.train.torch.network import Net

Teacher = Callable[[Examples, Progress], Tensor]
"""Examples [n] to what it says of them, float32 [n, k]: logits of the classes, or a number in units of the target; and
after them what its last layer was given, if a student is to have hints."""

_LEAST_BELIEF = 1e-4  # in a class: below it a forest has no more trees to tell
_ROWS_AT_ONCE = 512
_ROWS_OF_A_PART = 8_192  # after which a cancelled job is heard
_VIEWS = 4  # of each row, at most: another epoch with old ones teaches nearly as much as with new ones
_MOST_BYTES = 1 << 30  # of all views


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
        how = precision(self.net.plan.spec, rows.device)
        with torch.no_grad(), how, Given(self.net) as given:
            found = self.net(rows).reshape(len(rows), -1).float()
        if not self.net.plan.classes:
            found = found * self.net.target_deviation + self.net.target_mean
        return torch.cat([found, given.rows.float()], dim=1) if self.hints else found


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
    """Batches whose target is [b, 1 + k]: the target of the examples, then what the ``teacher`` says.

    ``views`` are the rows as they may be seen, and what it says of each; without any it is asked for every batch.
    """

    known: Prepared
    teacher: Teacher
    views: tuple[tuple[NDArray[Any], Tensor], ...] = ()

    def __len__(self) -> int:
        return len(self.known)

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """See :class:`mofang.make.train.torch.batches.Batches`."""
        random = None if seed is None else np.random.default_rng(seed)
        rows = self.known.index[index.numpy()]
        if self.views:
            features, answers = self.views[0 if random is None else random.integers(len(self.views))]
            some = replace(self.known.examples.some(rows), features=features[index.numpy()])
            said = answers[index]
        else:
            some = self.known.examples.some(rows, random)
            said = self.teacher(some, Silent())
        prepared = some.prepared().reshape(len(index), -1)
        return torch.from_numpy(prepared), torch.cat([_column(some.target), said.double()], dim=1)

    def fingerprint(self) -> str:
        """See :class:`mofang.make.train.torch.batches.Batches`."""
        return f"{self.known.fingerprint()} {len(self.views)}"


def lessons(known: Prepared, teacher: Teacher, epochs: float, seed: int, progress: Progress) -> Lessons:
    """Return what to learn from in so many ``epochs``, with the teacher's answers to all rows where they fit in memory.

    Augmented images are drawn as often as it may pay, and their answers used again in later epochs.
    """
    examples = known.examples
    augmented = bool(examples.augmentation and examples.schema.shape)
    size = examples.features[:1].nbytes * len(known)
    count = min(math.ceil(epochs), _VIEWS, _MOST_BYTES // max(size, 1)) if augmented else 1
    views = [_view(known, teacher, seed + number if augmented else None, (number, count), progress)
             for number in range(count)]  # fmt: skip
    return Lessons(known, teacher, tuple(views))


def _view(
    known: Prepared, teacher: Teacher, seed: int | None, place: tuple[int, int], progress: Progress
) -> tuple[NDArray[Any], Tensor]:
    random = None if seed is None else np.random.default_rng(seed)
    parts, said = [], []
    for start in range(0, len(known), _ROWS_OF_A_PART):
        number, count = place
        share = (number + start / len(known)) / count
        progress.report("compress", share, f"asking the teacher about {count * len(known):,} rows: {share:.0%}")
        some = known.examples.some(known.index[start : start + _ROWS_OF_A_PART], random)
        parts.append(some.features)
        said.append(teacher(some, Silent()))
    return np.concatenate(parts), torch.cat(said)


def _column(target: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(target.astype(np.float64))[:, None]
