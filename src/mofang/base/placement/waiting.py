"""Where calls wait for a worker: until this turn of the event loop ends, or until a lost worker is back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from mofang.base.placement.ticket import Ticket

T = TypeVar("T", bound=Ticket)


class WaitingRoom(Generic[T]):
    """First come, first served; bounded by calls and bytes."""

    def __init__(self, max_calls: int, max_bytes: int) -> None:
        self._max_calls = max_calls
        self._max_bytes = max_bytes
        self._tickets: list[T] = []
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[T]:
        return iter(self._tickets)

    def has_room(self, ticket: T) -> bool:
        """Whether ``ticket`` may come in."""
        return len(self._tickets) < self._max_calls and self._size_bytes + ticket.size_bytes <= self._max_bytes

    def add(self, ticket: T) -> None:
        """Let ``ticket`` in."""
        self._tickets.append(ticket)
        self._size_bytes += ticket.size_bytes

    def empty(self) -> list[T]:
        """Let all out, in their order."""
        tickets = self._tickets
        self.keep(())
        return tickets

    def keep(self, tickets: Iterable[T]) -> None:
        """Let all others out."""
        self._tickets = list(tickets)
        self._size_bytes = sum(ticket.size_bytes for ticket in self._tickets)
