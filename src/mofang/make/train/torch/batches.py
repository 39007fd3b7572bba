"""What a loop learns from: rows and targets, a batch at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofang.make.prepare.dataset import Examples


class Batches(Protocol):
    """A number of examples, of which a loop asks for some at a time."""

    def __len__(self) -> int: ...

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """Return rows [b, ...] and target [b, ...] of the examples ``index`` [b], as loss and network understand them.

        Changes at random (if there are any) are drawn from ``seed``; without one nothing is changed.
        """
        ...

    def fingerprint(self) -> str:
        """Return a digest of everything that can be taken: a checkpoint fits no other data."""
        ...


@dataclass(frozen=True, slots=True)
class Tensors:
    """Rows [n, ...] and target [n, ...] that lie in memory."""

    rows: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """See :class:`Batches`; nothing is random here."""
        return self.rows[index], self.target[index]

    def fingerprint(self) -> str:
        """See :class:`Batches`."""
        return _digest(self.rows.cpu().numpy(), self.target.cpu().numpy())


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Those of the prepared ``examples`` that ``index`` names, scaled, and augmented where a seed is given."""

    examples: Examples
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """See :class:`Batches`: rows float32 [b, features], target int64 or float64 [b]."""
        chosen = self.index[index.numpy()]
        random = None if seed is None else np.random.default_rng(seed)
        rows = self.examples.batch(chosen, random).reshape(len(chosen), -1)
        return torch.from_numpy(rows), torch.from_numpy(self.examples.target[chosen])

    def fingerprint(self) -> str:
        """See :class:`Batches`."""
        examples = self.examples
        about = f"{examples.schema!r} {examples.augmentation!r}".encode()
        return _digest(examples.features, examples.target, self.index, np.frombuffer(about, np.uint8))


def _digest(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
