"""Grounds for language models: how soon a stream begins, how fast it goes on, and how fast several do side by side.

The original and one variant after the other, each in a process of its own, take turns with the same prompts. Each
prompt begins with two tokens that are drawn, so that no engine has read the like before. All cores compute: nobody
serves a language model on one.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mofang.base.domain.errors import EngineFailed
from mofang.base.domain.work import Progress
from mofang.make.compress.arena import Times, compared, stand
from mofang.make.compress.compare import Of
from mofang.make.compress.measure import Contestant, Pace
from mofang.make.compress.stand import Stand

STREAMS = 4  # side by side
_TOKENS = 16  # that a stream gets
_PROMPT_TOKENS = 64
_PACE = Pace(warm_ups=1, rounds=5, races=2)


class Streams:
    """The original, loaded, and the texts all go on from. Use :func:`streams`."""

    def __init__(self, engine: str, original: Stand, texts: Sequence[Sequence[int]]) -> None:
        self._engine, self._original = engine, original
        self._texts = [[*text[:_PROMPT_TOKENS]] for text in texts]
        self._tokens = sorted({token for text in self._texts for token in text})
        self._races = 0

    def time(self, folder: Path, seconds: float, progress: Progress) -> Times:
        """Time the variant in ``folder`` against the original: the first token, the others, and those of several."""
        threads = len(os.sched_getaffinity(0))
        timed: tuple[tuple[int, Of, Callable[[Stand], Contestant]], ...] = (
            (1, "first token", self._first),
            (1, "token", self._next),
            (STREAMS, "token", self._several),
        )
        found = []
        with stand(self._engine, folder) as variant:
            for count, of, turn in timed:
                progress.report("compress", 0.5, f"timing {count} stream{'s' * (count > 1)}, the {of}, in turns")
                found.append(compared(turn(variant), turn(self._original), count, threads, seconds, of, _PACE))
                self._races += 1
            return tuple(found), variant.resident_bytes, self._original.resident_bytes

    def _first(self, one: Stand) -> Contestant:
        prompts = self._asked()
        return lambda: [one.speak([next(prompts)], 1).first_ns]

    def _next(self, one: Stand) -> Contestant:
        prompts = self._asked()

        def turn() -> list[int]:
            for _ in range(len(self._texts)):
                told = one.speak([next(prompts)], _TOKENS)
                if told.tokens > 1:
                    return [(told.all_ns - told.first_ns) // (told.tokens - 1)]
            raise EngineFailed("the model ends every text at once: there is nothing to time")

        return turn

    def _several(self, one: Stand) -> Contestant:
        prompts = self._asked()

        def turn() -> list[int]:
            told = one.speak([next(prompts) for _ in range(STREAMS)], _TOKENS)
            return [told.all_ns * STREAMS // max(told.tokens, 1)]

        return turn

    def _asked(self) -> Iterator[list[int]]:
        """Give the prompts of this race, the same to both."""
        random = np.random.default_rng(self._races)
        for text in itertools.cycle(self._texts):
            yield [*random.choice(self._tokens, 2).tolist(), *text]


@contextmanager
def streams(engine: str, folder: Path, texts: Sequence[Sequence[int]]) -> Iterator[Streams]:
    """Load the original in a process of its own; ``texts`` (tokens) are what it goes on from."""
    with stand(engine, folder) as original:
        yield Streams(engine, original, texts)
