"""Backing off from whoever guesses: after a few failures a name must wait, twice as long each time.

Names that nobody has wait as well, so that waiting tells nothing. It is kept in memory: a restart forgets it, and as
many names as fit are remembered, the latest ones.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE_FAILURES = 5
LONGEST_SECONDS = 900.0
_NAMES_KEPT = 10_000


@dataclass(slots=True)
class _Failures:
    count: int = 0
    until: float = 0.0


class Backoff:
    """Counts failures in a row, by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait_seconds(self, name: str) -> float:
        """Return how long ``name`` has to wait before it is looked at again; 0: not at all."""
        found = self._failures.get(name)
        return max(0.0, found.until - self._clock()) if found else 0.0

    def failed(self, name: str) -> None:
        """Count a failure."""
        found = self._failures.setdefault(name, _Failures())
        self._failures.move_to_end(name)
        found.count += 1
        if found.count >= FREE_FAILURES:
            doubled = 2.0 ** min(found.count - FREE_FAILURES, 20)
            found.until = self._clock() + min(doubled, LONGEST_SECONDS)
        while len(self._failures) > _NAMES_KEPT:
            self._failures.popitem(last=False)

    def succeeded(self, name: str) -> None:
        """Forget the failures of a name."""
        self._failures.pop(name, None)
