"""Ends calls at their deadline with one timer for all of them.

Deadlines mostly come in rising order, so the timer is set for the earliest and the calls are looked through only when
it fires: about once in the usual time-out, and nothing is done for each request.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable

from mofang.base.domain.errors import DeadlineExceeded
from mofang.base.placement.ticket import Ticket

_TICK_SECONDS = 0.001  # passes are at least so far apart; a call ends up to so late, but never early


class Deadlines:
    """Watches the tickets that ``waiting`` lists; ``ended`` is called after a pass that ended some."""

    def __init__(self, waiting: Callable[[], Iterable[Ticket]], ended: Callable[[], None] | None = None) -> None:
        self._waiting = waiting
        self._ended = ended
        self._earliest = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, deadline: float) -> None:
        """See to it that a call with this deadline, listed by ``waiting``, ends in time."""
        if deadline < self._earliest:
            self._earliest = deadline
            if self._timer is not None:
                self._timer.cancel()
            delay = max(_TICK_SECONDS, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._pass)

    def close(self) -> None:
        """Stop the timer, and let go of who listed tickets, who mostly holds this: nothing is watched any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting, self._ended = tuple, None

    def _pass(self) -> None:
        self._timer = None
        now = time.monotonic()
        alive = [ticket for ticket in self._waiting() if not ticket.done()]
        late = [ticket for ticket in alive if ticket.call.deadline <= now]
        for ticket in late:
            ticket.set_exception(expired())
        self._earliest = math.inf
        earliest = min((ticket.call.deadline for ticket in alive if ticket.call.deadline > now), default=math.inf)
        if earliest < math.inf:
            self.watch(earliest)
        if late and self._ended is not None:
            self._ended()


def expired() -> DeadlineExceeded:
    """Return the error of a call whose time has passed."""
    return DeadlineExceeded("the deadline of the request has passed")
