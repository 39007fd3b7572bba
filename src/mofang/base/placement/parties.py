"""The parties a gateway has sent to one worker, by the number of their first call. Used by ``process.py``; does no I/O.

A party that comes back as one was one frame each way. If the worker had others waiting it says so at once, and for a
while calls are sent one by one: a model that is always busy is not asked again and again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.placement.party import Party
from mofang.base.placement.ticket import Ticket

_ALONE_SECONDS = 0.2  # after a party had to go apart


class Parties:
    """Those under way, as many calls as the replica's queue would hold."""

    def __init__(self, limits: ReplicaLimits) -> None:
        self._limits = limits
        self._going: dict[int, Party] = {}
        self._parted: dict[int, list[int]] = {}  # rows of the calls of parties that parted while the worker had them
        self._alone_until = 0.0
        self.calls = 0

    def may_go(self, rows: int) -> bool:
        """Tell whether a party of so many rows may be sent."""
        limits = self._limits
        return (
            limits.join
            and rows <= limits.max_batch_rows
            and self.calls < limits.max_queue
            and time.monotonic() >= self._alone_until
        )

    def go(self, first: int, party: Party) -> None:
        """Remember a party that was sent; its calls have the numbers from ``first`` on."""
        self._going[first] = party
        self.calls += len(party.rows_of)

    def arrive(self, first: int) -> Party | None:
        """Return the party that is back; None if it has parted."""
        party = self._going.pop(first, None)
        if party is not None:
            self.calls -= len(party.rows_of)
        return party

    def refused(self, first: int) -> Mapping[int, Ticket]:
        """The worker computes these one by one: return their tickets, if they have not parted before."""
        self._alone_until = time.monotonic() + _ALONE_SECONDS
        self._parted.pop(first, None)
        party = self.arrive(first)
        return {} if party is None else _numbered(first, party)

    def part(self, party: Party) -> Mapping[int, Ticket]:
        """Return the tickets of a party that has to part before it is back."""
        first = next(number for number, each in self._going.items() if each is party)
        self.arrive(first)
        self._parted[first] = list(party.rows_of)
        return _numbered(first, party)

    def parted(self, first: int) -> list[int]:
        """Return the rows of each call of a party that parted, once."""
        return self._parted.pop(first, [])

    def going(self) -> list[Party]:
        """Return those under way."""
        return list(self._going.values())

    def forget(self) -> None:
        """The worker is gone: nothing comes back."""
        self._parted.clear()


def _numbered(first: int, party: Party) -> dict[int, Ticket]:
    tickets = dict(enumerate(party.apart(), first))
    for number, ticket in tickets.items():
        ticket.number = number
    return tickets
