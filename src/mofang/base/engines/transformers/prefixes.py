"""Prompts that were read lately, for those that begin alike. Only the engine uses this.

What was computed of a prompt's tokens depends on nothing after them, so that another prompt with the same beginning
goes on from there. Keys and values are never changed in place: keeping them costs memory, but no computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mofang.base.engines.transformers.torch import States, cut

_FEWEST_TOKENS = 16  # that are worth it: a few are the same in all prompts of a chat template
_MOST_PROMPTS = 256  # that are compared with one that comes
Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Prompt:
    tokens: Tokens
    adapter: str
    states: States

    def shared(self, tokens: Tokens) -> int:
        """Return how many tokens at the beginning are the same."""
        size = min(len(self.tokens), len(tokens))
        differs = np.flatnonzero(self.tokens[:size] != tokens[:size])
        return int(differs[0]) if len(differs) else size


class Prefixes:
    """What is kept, the one that was of use last at the end. The caller says how many tokens that may be."""

    def __init__(self) -> None:
        self._prompts: list[_Prompt] = []

    @property
    def tokens(self) -> int:
        """Of all prompts that are kept."""
        return sum(len(each.tokens) for each in self._prompts)

    def find(self, prompt: Sequence[int], adapter: str) -> tuple[States, int]:
        """Return what is known of the longest beginning of ``prompt``, and its tokens: all but one at most.

        The last one is left to be read, since what comes after it is not kept.
        """
        tokens = np.asarray(prompt, np.int64)
        fitting = [(each.shared(tokens), each) for each in self._prompts if each.adapter == adapter]
        shared, best = max(fitting, key=lambda each: each[0], default=(0, None))
        size = min(shared, len(tokens) - 1)
        if best is None or size < _FEWEST_TOKENS:
            return [], 0
        self._prompts.remove(best)
        self._prompts.append(best)
        return cut(best.states, size), size

    def keep(self, prompt: Sequence[int], adapter: str, states: States) -> None:
        """Keep the ``states`` of a whole ``prompt``, instead of those of its beginnings."""
        tokens = np.asarray(prompt, np.int64)
        fitting = [(each, each.shared(tokens)) for each in self._prompts if each.adapter == adapter]
        if any(shared == len(tokens) for _, shared in fitting):
            return
        covered = {id(each) for each, shared in fitting if shared == len(each.tokens)}
        self._prompts = [each for each in self._prompts if id(each) not in covered]
        self._prompts.append(_Prompt(tokens, adapter, states))

    def shrink(self, most_tokens: int) -> None:
        """Let go of those that were of no use for longest, until ``most_tokens`` are left at most."""
        while self._prompts and (self.tokens > most_tokens or len(self._prompts) > _MOST_PROMPTS):
            del self._prompts[0]

    def clear(self) -> None:
        """Let go of all."""
        self._prompts.clear()
