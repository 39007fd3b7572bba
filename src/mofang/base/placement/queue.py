"""A bounded queue that is fair across tenants. Pure: no clock, no event loop; the replica uses it.

Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996): each tenant has a virtual time that advances by
``cost / weight`` with every call of its that is served, and the tenant furthest behind goes next. A tenant that comes
back after a pause has no debt, and credit for a few calls (as in borrowed virtual time, Duda and Cheriton 1999):
so one that asks now and then is not made to take turns with a flood for each call of a small burst. Inside a tenant
higher priority goes first, then first come, first served.

The cost of a call is the engine's time. That is known only afterwards, so a call is charged for its rows when it is
served, and what it took more or less than rows usually do is charged when it was measured.

The room of a full queue is shared in the same spirit: a call of a tenant that holds less than the one that holds most
pushes out the latter's newest call, so that a flood of one tenant cannot keep the others out.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

from mofang.base.domain.errors import Overloaded
from mofang.base.domain.inference import Call
from mofang.base.placement.ticket import Ticket

_CREDIT_CALLS = 4  # that a tenant may have at once which asked for less than its share before
_LEARN = 0.05  # of the difference, what a row usually takes follows what one took
_PRUNE_ABOVE = 1024  # tenants remembered before those without debt are forgotten


class _Line:
    """The waiting calls of one tenant."""

    __slots__ = ("active", "arrival", "count", "levels", "order", "rows", "size_bytes", "time", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight  # of the call that came last
        self.time = 0.0  # virtual
        self.active = False  # whether it stands in the heap
        self.arrival = 0  # among lines of the same time the one that came first goes first
        self.levels: dict[int, deque[Ticket]] = {}
        self.order: list[int] = []  # priorities that occur, highest first
        self.count = 0
        self.rows = 0
        self.size_bytes = 0

    def add(self, ticket: Ticket, *, in_front: bool = False) -> None:
        priority = ticket.call.priority
        level = self.levels.get(priority)
        if level is None:
            level = self.levels[priority] = deque()
            self.order.append(priority)
            self.order.sort(reverse=True)
        if in_front:
            level.appendleft(ticket)
        else:
            level.append(ticket)
        self.count += 1
        self.rows += ticket.call.rows
        self.size_bytes += ticket.size_bytes

    def first(self) -> Ticket:
        return self.levels[self.order[0]][0]

    def last(self) -> Ticket:
        return self.levels[self.order[-1]][-1]

    def take(self, *, newest: bool = False) -> Ticket:
        priority = self.order[-1 if newest else 0]
        level = self.levels[priority]
        ticket = level.pop() if newest else level.popleft()
        if not level:
            del self.levels[priority]
            self.order.remove(priority)
        self.count -= 1
        self.rows -= ticket.call.rows
        self.size_bytes -= ticket.size_bytes
        return ticket


class FairQueue:
    """At most ``max_calls`` calls of at most ``max_bytes`` together; calls bring their tenants' weights."""

    def __init__(self, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._row_us = 0.0  # what a row usually takes
        self._lines: dict[str, _Line] = {}
        self._heap: list[tuple[float, int, _Line]] = []  # lines with calls, by virtual time, then by arrival
        self._arrivals = 0
        self._time = 0.0  # virtual time of the line served last
        self.count = 0
        self.rows = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return self.count

    def push(self, ticket: Ticket) -> list[Ticket]:
        """Append ``ticket`` and return the calls it pushed out (mostly none). Raises Overloaded if it finds no room."""
        if not self.count:  # a new busy period: everybody starts equal
            self._lines.clear()
            self._heap.clear()
            self._time = 0.0
        call = ticket.call
        line = self._lines.get(call.tenant) or self._line(call.tenant)
        line.weight = call.weight
        victims = [] if self._has_room(ticket) else self._make_room(ticket, line)
        self._add(line, ticket)
        return victims

    def peek(self) -> Ticket | None:
        """Return the call whose turn it is."""
        while self._heap:
            line = self._heap[0][2]
            if line.count:
                return line.first()
            heapq.heappop(self._heap)
            line.active = False
        return None

    def pop(self) -> Ticket:
        """Remove the call that :meth:`peek` showed and charge its tenant for it."""
        line = self._heap[0][2]
        self._time = line.time
        ticket = self._take(line)
        line.time += ticket.call.rows / line.weight
        if len(self._heap) == 1:
            self._heap[0] = (line.time, line.arrival, line)
        else:
            heapq.heapreplace(self._heap, (line.time, line.arrival, line))
        return ticket

    @property
    def is_contended(self) -> bool:
        """Whether calls of more than one tenant have come since it was empty."""
        return len(self._lines) > 1

    def measured(self, took: Iterable[tuple[Call, int]]) -> None:
        """Charge tenants for what their calls took, in microseconds, beyond what rows usually take, or less."""
        usual = self._row_us
        moved = False
        for call, us in took:
            row_us = us / call.rows
            self._row_us = row_us if not self._row_us else self._row_us + (row_us - self._row_us) * _LEARN
            line = self._lines.get(call.tenant)
            if usual and line is not None:
                line.time = max(self._time, line.time + (us / usual - call.rows) / line.weight)
                moved = moved or line.active
        if moved:
            self._sort()

    def goes_before(self, ticket: Ticket, running: Call) -> bool:
        """Whether ``ticket``, which waits, should have been served before ``running``, a call of somebody who floods.

        That is, whose other calls wait, and who has had more than the tenant of ``ticket`` by a call of hers at least.
        """
        own, other = self._lines.get(ticket.call.tenant), self._lines.get(running.tenant)
        if own is None or other is None or own is other or not other.count:
            return False
        return own.time + ticket.call.rows / own.weight <= other.time - running.rows / other.weight

    def charge(self, tenant: str, rows: float) -> None:
        """Charge ``tenant``, whose calls wait, for what was computed in vain because of it."""
        line = self._lines[tenant]
        line.time += rows / line.weight
        self._sort()

    def drop(self) -> Ticket:
        """Remove the call that :meth:`peek` showed without charging anyone: it will not be computed, or not yet."""
        return self._take(self._heap[0][2])

    def restore(self, dropped: Iterable[Ticket]) -> None:
        """Put back what was dropped, in the order it was dropped, to where it stood."""
        for ticket in reversed(list(dropped)):
            self._add(self._line(ticket.call.tenant), ticket, in_front=True)

    def put_back(self, popped: Iterable[Ticket]) -> None:
        """Put back the last that were popped, in the order they were, to where they stood; nobody is charged."""
        for ticket in reversed(list(popped)):
            line = self._line(ticket.call.tenant)
            self._add(line, ticket, in_front=True)
            line.time -= ticket.call.rows / line.weight
        self._sort()

    def purge(self) -> None:
        """Forget all calls that nobody waits for."""
        alive = [ticket for ticket in self if not ticket.done()]
        for line in self._lines.values():
            line.levels.clear()
            line.order.clear()
            line.count = line.rows = line.size_bytes = 0
        self.count = self.rows = self.size_bytes = 0
        for ticket in alive:
            self._add(self._lines[ticket.call.tenant], ticket)

    def rows_ahead(self, tenant: str, rows: int, weight: float = 1.0) -> float:
        """Return about how many rows are computed before a new call of ``rows`` rows of ``tenant`` would be."""
        own = self._lines.get(tenant)
        if own is None:
            own = _Line(weight)
        share = (own.rows + rows) / own.weight
        return own.rows + sum(min(each.rows, share * each.weight) for each in self._lines.values() if each is not own)

    def __iter__(self) -> Iterator[Ticket]:
        for line in self._lines.values():
            for level in line.levels.values():
                yield from level

    def _sort(self) -> None:
        """Put lines in the order of their times, which have changed."""
        self._heap = [(line.time, line.arrival, line) for _, _, line in self._heap]
        heapq.heapify(self._heap)

    def _line(self, tenant: str) -> _Line:
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) >= _PRUNE_ABOVE:
                self._lines = {k: v for k, v in self._lines.items() if v.active or v.time > self._time}
            line = self._lines[tenant] = _Line(1.0)
        return line

    def _add(self, line: _Line, ticket: Ticket, *, in_front: bool = False) -> None:
        line.add(ticket, in_front=in_front)
        self.count += 1
        self.rows += ticket.call.rows
        self.size_bytes += ticket.size_bytes
        if not line.active:
            line.active = True
            if not in_front:  # what is restored never left
                line.time = max(line.time, self._time - _CREDIT_CALLS * ticket.call.rows / line.weight)
                self._arrivals += 1
                line.arrival = self._arrivals
            heapq.heappush(self._heap, (line.time, line.arrival, line))

    def _take(self, line: _Line, *, newest: bool = False) -> Ticket:
        ticket = line.take(newest=newest)
        self.count -= 1
        self.rows -= ticket.call.rows
        self.size_bytes -= ticket.size_bytes
        return ticket

    def _has_room(self, ticket: Ticket) -> bool:
        return self.count < self._max_calls and self.size_bytes + ticket.size_bytes <= self._max_bytes

    def _make_room(self, ticket: Ticket, own: _Line) -> list[Ticket]:
        victims: list[Ticket] = []
        while not self._has_room(ticket):
            by_bytes = self.count < self._max_calls
            victim = self._heaviest(by_bytes=by_bytes)
            if not self._gives_way(victim, own, ticket, by_bytes=by_bytes):
                for each in reversed(victims):
                    self._add(self._lines[each.call.tenant], each)
                raise Overloaded(f"the queue is full: {self.count} calls of {self.size_bytes} bytes wait")
            victims.append(self._take(victim, newest=True))
        return victims

    def _heaviest(self, *, by_bytes: bool) -> _Line:
        return max(self._lines.values(), key=lambda line: (line.size_bytes if by_bytes else line.count) / line.weight)

    def _gives_way(self, victim: _Line, own: _Line, ticket: Ticket, *, by_bytes: bool) -> bool:
        if not victim.count:
            return False
        if victim is own:
            return victim.last().call.priority < ticket.call.priority
        if by_bytes:
            return (own.size_bytes + ticket.size_bytes) / own.weight < victim.size_bytes / victim.weight
        return (own.count + 1) / own.weight < victim.count / victim.weight
