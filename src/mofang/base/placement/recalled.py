"""What a cache of answers has computed: one call for all who ask the same, or the part of a party that is not known.

Used by ``cached.py``, which keeps the answers; what both ask of it is :class:`Memory`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array
from mofang.base.placement.party import Party, parts
from mofang.base.placement.ticket import Ticket


class Memory(Protocol):
    """The cache."""

    def answered(self, asking: Asking, answer: Answer) -> None:
        """Tell all who asked, and keep the answer."""

    def failed(self, asking: Asking, error: MofangError) -> None:
        """Tell the one it was computed for; the others are computed by themselves."""

    def follow(self, asking: Asking, tickets: Sequence[Ticket]) -> None:
        """A party has gone apart: the first of these is who is asked for, the others ask the same."""

    def tell(self, tickets: Sequence[Ticket], answer: Answer) -> None:
        """Give an answer that took no computing, and count it."""

    def left(self, unknown: Unknown) -> None:
        """A party is not under way any more."""

    def count(self, tenant: str, requests: int, rows: int) -> None:
        """Count answers that took no computing."""


class Asking:
    """The ticket that the inner replica holds, for the first who asked and for those who came after her.

    While a party is under way that asks it, there is nobody who was first (``ticket`` is None).
    """

    __slots__ = ("_memory", "call", "followers", "key", "number", "queued_at", "size_bytes", "ticket")

    call: Call
    size_bytes: int

    def __init__(self, memory: Memory, key: bytes, ticket: Ticket | None = None) -> None:
        self._memory = memory
        self.key = key
        self.followers: list[Ticket] = []
        self.number = 0
        self.queued_at = 0.0
        self.ticket = ticket
        if ticket is not None:
            self.lead(ticket)

    def lead(self, ticket: Ticket) -> None:
        """Ask for this one."""
        self.ticket, self.call, self.size_bytes = ticket, ticket.call, ticket.size_bytes

    def done(self) -> bool:
        """See :class:`Ticket`."""
        return self.ticket is not None and self.ticket.done()

    def set_result(self, answer: Answer, /) -> None:
        """See :class:`Ticket`."""
        self._memory.answered(self, answer)

    def set_exception(self, error: MofangError, /) -> None:
        """See :class:`Ticket`."""
        self._memory.failed(self, error)


class Unknown:
    """The calls of a party whose answers are not ``found`` in memory, each once: a smaller party."""

    def __init__(self, memory: Memory, party: Party, keys: Sequence[bytes], found: Sequence[Answer | None]) -> None:
        self._memory = memory
        self._keys = keys
        self._found = found
        self._whose = [(tenant, weight) for tenant, weight, count in party.tenants for _ in range(count)]
        firsts = {key: index for index, key in reversed(list(enumerate(keys))) if found[index] is None}
        self._members = sorted(firsts.values())
        self.asking = {keys[index]: Asking(memory, keys[index]) for index in self._members}
        self.party = party
        self.deadline = party.deadline
        self.rows_of = [party.rows_of[index] for index in self._members]
        self.rows = sum(self.rows_of)
        self.tenants = [(*self._whose[index], 1) for index in self._members]
        self.priorities = {
            at: party.priorities[index] for at, index in enumerate(self._members) if index in party.priorities
        }
        self.inputs = party.inputs if self._is_whole else self._own(party.inputs)

    @property
    def _is_whole(self) -> bool:
        return len(self._members) == len(self._keys)

    def computed(self, answer: Answer, recalled: Collection[int] = (), /) -> None:
        """See :class:`Party`: keep each answer, and give the party its own."""
        self._memory.left(self)
        own = dict(zip(self.asking, parts(answer, self.rows_of), strict=True))
        for key, asking in self.asking.items():
            self._memory.answered(asking, own[key])
        if self._is_whole:
            self.party.computed(answer)
        else:
            self.tell(own, answer)

    def tell(self, own: Mapping[bytes, Answer], answer: Answer) -> None:
        """Give the party its answers, those from memory among them; ``answer`` is to what was computed."""
        pieces = [known or own[key] for key, known in zip(self._keys, self._found, strict=True)]
        recalled = frozenset(range(len(self._keys))).difference(self._members)
        try:
            outputs = {name: np.concatenate([each.outputs[name] for each in pieces]) for name in pieces[0].outputs}
        except ValueError:  # they have rows of several shapes
            for ticket, piece in zip(self.party.apart(), pieces, strict=True):
                ticket.set_result(piece)
            return
        requests, rows = Counter[str](), Counter[str]()
        for index in recalled:
            tenant = self._whose[index][0]
            requests[tenant] += 1
            rows[tenant] += self.party.rows_of[index]
        for tenant, count in requests.items():
            self._memory.count(tenant, count, rows[tenant])
        self.party.computed(
            Answer(outputs, answer.compute_us, answer.queue_us, answer.batch_rows, is_cached=not self._members),
            recalled,
        )

    def apart(self) -> Sequence[Asking]:
        """See :class:`Party`: what is known is told at once."""
        self._memory.left(self)
        tickets = self.party.apart()
        for key, asking in self.asking.items():
            same = [ticket for ticket, each in zip(tickets, self._keys, strict=True) if each == key]
            self._memory.follow(asking, same)
        for ticket, known in zip(tickets, self._found, strict=True):
            if known is not None:
                self._memory.tell([ticket], known)
        return list(self.asking.values())

    def _own(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        ends = [0, *accumulate(self.party.rows_of)]
        spans = [(ends[index], ends[index + 1]) for index in self._members]
        if not spans:
            return {}
        return {name: np.concatenate([array[start:end] for start, end in spans]) for name, array in inputs.items()}
