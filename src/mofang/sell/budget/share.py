"""One gateway's part in one budget: its slice, the requests that wait for more, and its questions to the controller.

Pure: the purse brings requests and words, and sends what :meth:`Share.account` says.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from mofang.sell.budget.slices import Slice
from mofang.sell.budget.words import Account, Lease


class Waiting(Protocol):
    """A request that waits for units."""

    @property
    def gone(self) -> bool:
        """Whether it waits no more."""

    def need(self, share: Share) -> int:
        """Return the units it wants of this share."""

    def go_on(self) -> None:
        """What it wants of this share is there."""

    def refuse(self, share: Share) -> None:
        """There is nothing more to be had, anywhere."""


class Share:
    """What a gateway has of a budget in one month."""

    __slots__ = (
        "_asked_for", "_low", "acknowledged", "answered", "asked", "budget", "dry_units", "dry_until", "idle", "said",
        "slice", "start", "waiting",
    )  # fmt: skip

    def __init__(self, budget: str, start: int) -> None:
        self.budget = budget
        self.start = start
        self.slice = Slice()
        self.waiting: deque[Waiting] = deque()
        self.asked = self.answered = self.acknowledged = 0
        self.idle = 0  # words said since it was last used
        self.said: Account | None = None  # what the controller was told last
        self.dry_until = 0.0  # on time.monotonic(): until then nobody asks again for as many units as
        self.dry_units = 0  # ... were refused
        self._asked_for: Waiting | None = None
        self._low = 0  # with fewer units than these more are asked for, ahead of need

    @property
    def is_low(self) -> bool:
        """Whether it is time to ask for more."""
        return self.slice.available < self._low and self.asked == self.answered

    def is_dry(self, units: int, now: float) -> bool:
        """Whether as many units were refused a moment ago."""
        return units >= self.dry_units and now < self.dry_until

    def ask_ahead(self) -> None:
        """Ask for more before it is needed."""
        self._question(None)

    def serve(self) -> bool:
        """Let those go on, or be refused, who can be; return whether a question is to be asked."""
        while self.waiting:
            first = self.waiting[0]
            if first.gone:
                self.waiting.popleft()
            elif first.need(self) <= self.slice.available:
                self.waiting.popleft()
                first.go_on()
            elif self.asked > self.answered:
                return False
            elif self._asked_for is first:
                self.waiting.popleft()
                first.refuse(self)
            else:
                self._question(first)
                return True
        return False

    def hear(self, lease: Lease) -> bool:
        """Take what was lent, and give back what is not in use if asked to; return whether there is news of it."""
        new = self.slice.grant(lease.granted)
        self.said = None
        if new:
            self.dry_until = 0.0
        if lease.answered > self.answered or new:
            self._low = new // 2  # an answer of nothing: whoever comes next asks when she needs it
        self.answered = max(self.answered, lease.answered)
        says = self.serve()
        if lease.recall > self.acknowledged:
            self.acknowledged = lease.recall
            self.give_back()
            return True
        return says

    def give_back(self) -> None:
        """Return what no request holds."""
        self.slice.give_back(max(0, self.slice.available))
        self._low = 0

    @property
    def is_unused(self) -> bool:
        """Whether nobody waits here and nothing is held."""
        return not self.waiting and not self.slice.reserved

    def account(self) -> Account:
        """Say how it stands."""
        alive = [each for each in self.waiting if not each.gone]
        needs = [each.need(self) for each in alive]
        held = self.slice
        need = max(0, needs[0] - held.available) if needs else 0
        waiting = max(0, sum(needs) - held.available)
        return Account(
            self.budget, self.start, held.returned, held.charged, held.reserved, need, waiting, self.asked,
            self.answered, self.acknowledged,
        )  # fmt: skip

    def _question(self, waiting: Waiting | None) -> None:
        self.asked += 1
        self._asked_for = waiting
