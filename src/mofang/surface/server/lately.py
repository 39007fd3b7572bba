"""What came within the last seconds: for gauges that people read without a query. Pure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import msgspec

RATE_SECONDS, CACHE_SECONDS = 10, 60


class Pace(msgspec.Struct, array_like=True):
    """How fast a language model speaks and reads, in tokens a second, and which share of prompts was cached, 0 to 1.

    The share is None if no prompt was read lately.
    """

    output: float
    input: float
    cached: float | None


class Lately:
    """A sum of the last ``seconds``, by whole seconds."""

    def __init__(self, seconds: int, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._now = seconds, now
        self._sums: deque[list[int]] = deque()  # second, sum

    def add(self, amount: int) -> None:
        """Count what came now."""
        second = int(self._now())
        if self._sums and self._sums[-1][0] == second:
            self._sums[-1][1] += amount
        else:
            self._sums.append([second, amount])
            self._forget(second)

    @property
    def total(self) -> int:
        """All that came lately."""
        self._forget(int(self._now()))
        return sum(amount for _, amount in self._sums)

    def _forget(self, second: int) -> None:
        while self._sums and self._sums[0][0] <= second - self._seconds:
            self._sums.popleft()


class Talk:
    """What a language model said and read lately."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._output, self._input = Lately(RATE_SECONDS, now), Lately(RATE_SECONDS, now)
        self._prompts, self._cached = Lately(CACHE_SECONDS, now), Lately(CACHE_SECONDS, now)

    def said(self, tokens: int) -> None:
        """Count tokens of an answer, as they are handed out."""
        self._output.add(tokens)

    def read(self, tokens: int, cached: int) -> None:
        """Count the tokens of a prompt, and those of them that were cached."""
        self._input.add(tokens)
        self._prompts.add(tokens)
        self._cached.add(cached)

    @property
    def pace(self) -> Pace:
        """How it stands now."""
        prompts = self._prompts.total
        share = self._cached.total / prompts if prompts else None
        return Pace(self._output.total / RATE_SECONDS, self._input.total / RATE_SECONDS, share)
