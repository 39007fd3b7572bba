"""Which workers have fallen silent, by the clock of who watches. Pure.

A worker's sign of life is a count that grows. Who watches sees when a count has not grown for as long as its lease
lasts, by a clock that nobody sets: no wall clock, of whatever machine, says anything about a lease. A watcher that has
just begun gives everybody the whole time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pulse:
    """How often the holder of a lease has shown itself, and for how long it may be silent."""

    job: str
    token: str
    beats: int
    ttl_seconds: float


class Vigil:
    """Remembers when each pulse was first seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[Pulse, float] = {}

    def silent(self, pulses: Iterable[Pulse]) -> list[Pulse]:
        """Return those of ``pulses``, which are all there are, that have been the same for too long."""
        now = self._clock()
        self._since = {pulse: self._since.get(pulse, now) for pulse in pulses}
        return [pulse for pulse, since in self._since.items() if now - since > pulse.ttl_seconds]
