"""How long a batch that could start now waits for more: only as long as that is measured to pay. Pure.

What comes is a rate; how long batches take is known (``pace``). Computing ``rows`` now and ``more`` later costs
``expect(rows) + expect(more)``, both together ``expect(rows + more)``: the difference is what waiting saves, and the
time in which ``more`` come is what it costs. A replica asks only if its last batch joined several calls, so that one
client alone never waits.
"""

from __future__ import annotations

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.placement.pace import Pace

_NEW = 0.3  # weight of the newest gap between batches in the rate


class Patience:
    """Knows how many rows come in a second."""

    def __init__(self) -> None:
        self.rate = 0.0  # rows a second
        self._formed_at = 0.0

    def formed(self, rows: int, now: float) -> None:
        """Take in that a batch of ``rows`` was formed: they came since the last one was."""
        if self._formed_at and now > self._formed_at:
            rate = rows / (now - self._formed_at)
            self.rate = self.rate + _NEW * (rate - self.rate) if self.rate else rate
        self._formed_at = now

    def plan(self, rows: int, pace: Pace, limits: ReplicaLimits) -> tuple[int, float]:
        """Return the rows worth waiting for, and the seconds in which they should be there; (rows, 0.0) if none are."""
        best, enough, wait = 0.0, rows, 0.0
        if not self.rate or not limits.max_wait_us:
            return enough, wait
        for size in _sizes(rows, limits):
            seconds = (size - rows) / self.rate
            if seconds * 1e6 > limits.max_wait_us:
                break
            saved = pace.expect(rows) + pace.expect(size - rows) - pace.expect(size) - seconds
            if saved > best:
                best, enough, wait = saved, size, seconds
        return enough, wait


def _sizes(rows: int, limits: ReplicaLimits) -> list[int]:
    """Return the sizes larger than ``rows`` that come into question, rising."""
    powers = {1 << bits for bits in range(limits.max_batch_rows.bit_length())}
    return sorted(
        size
        for size in powers | {*limits.preferred_rows, limits.max_batch_rows}
        if rows < size <= limits.max_batch_rows
    )
