"""Answers that were given before, for endpoints whose owner wants that: nothing is computed twice.

Wraps any replica. A call that asks what the same tenant has asked before gets that answer; one that asks what is being
computed just now gets that answer when it is there. Both are answers like any other, recorded and paid, but for the
engine's time: there was none. A replica serves one version, so that a key need not name it; tenants share nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

import msgspec
import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array, size_bytes
from mofang.base.domain.usage import METERED
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.deadlines import Deadlines
from mofang.base.placement.party import Party
from mofang.base.placement.recalled import Asking, Unknown
from mofang.base.placement.tally import Tally, Uncounted, count_answers
from mofang.base.placement.ticket import FutureTicket, Ticket

_ENTRY_BYTES = 512  # what an answer takes besides its numbers


class CachedReplica:
    """A :class:`ReplicaHandle` on ``inner`` that keeps answers of ``max_bytes`` together, those asked last."""

    def __init__(self, inner: ReplicaHandle, max_bytes: int, tally: Tally | None = None) -> None:
        self._inner = inner
        self._tally = tally or Uncounted()  # of what is answered here; what is computed the replica counts
        self._max_bytes = max_bytes
        self._known: OrderedDict[bytes, tuple[Answer, int]] = OrderedDict()
        self._bytes = 0
        self._asking: dict[bytes, Asking] = {}
        self._of: dict[Ticket, Asking] = {}
        self._boarded: dict[int, Unknown] = {}  # by the id of the party that each is of, which it holds
        self._deadlines = Deadlines(self._followers)

    @property
    def load(self) -> int:
        """See :class:`ReplicaHandle`."""
        return self._inner.load

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """See :class:`ReplicaHandle`."""
        ticket = FutureTicket(call, asyncio.get_running_loop())
        self.admit(ticket)
        return ticket

    def admit(self, ticket: Ticket) -> None:
        """See :class:`ReplicaHandle`: from memory, with others, or computed."""
        key = _key(ticket.call.tenant, ticket.call.inputs)
        if answer := self._recall(key):
            self.tell([ticket], answer)
        elif asking := self._asking.get(key):
            asking.followers.append(ticket)
            self._of[ticket] = asking
            self._deadlines.watch(ticket.call.deadline)
        else:
            self._ask(Asking(self, key, ticket), ticket)

    def drop(self, ticket: Ticket) -> None:
        """See :class:`ReplicaHandle`. If others wait for the same, it goes on for them."""
        asking = self._of.pop(ticket, None)
        if asking is None:
            return
        if asking.ticket is ticket:
            del self._asking[asking.key]
            self._inner.drop(asking)
            self._go_on_without(asking)
        else:
            asking.followers.remove(ticket)

    def takes(self, rows: int) -> bool:
        """See :class:`ReplicaHandle`."""
        return self._inner.takes(rows)

    def board(self, party: Party) -> bool:
        """See :class:`ReplicaHandle`: what is not known is computed as a smaller party.

        One of whose calls another is being computed goes apart, so that this call waits with that one.
        """
        keys = list(_keys(party))
        if any(key in self._asking for key in keys):
            return False
        found = [self._recall(key) for key in keys]
        unknown = Unknown(self, party, keys, found)
        if not unknown.rows:
            unknown.tell({}, Answer({}, 0, 0, party.rows, is_cached=True))
            return True
        self._asking |= unknown.asking
        self._boarded[id(party)] = unknown
        if self._inner.board(unknown):
            return True
        self.left(unknown)
        for asking in unknown.asking.values():
            self._forget(asking)
        return False

    def part(self, party: Party) -> None:
        """See :class:`ReplicaHandle`."""
        if (unknown := self._boarded.get(id(party))) is not None:
            self._inner.part(unknown)

    async def close(self) -> None:
        """See :class:`ReplicaHandle`."""
        await self._inner.close()
        self._tally.close()
        self._deadlines.close()

    # --- what the inner replica tells ---------------------------------------------------------------------------------

    def answered(self, asking: Asking, answer: Answer) -> None:
        """Tell all who asked, and keep the answer."""
        self._forget(asking)
        self.learn(asking, answer)
        if asking.ticket is not None and not asking.ticket.done():
            asking.ticket.set_result(answer)

    def learn(self, asking: Asking, answer: Answer) -> None:
        """Keep an answer, and give it to those who asked the same meanwhile."""
        outputs = {name: np.array(array) for name, array in answer.outputs.items()}  # not the batch it is part of
        again = msgspec.structs.replace(answer, outputs=outputs, compute_us=0, queue_us=0, is_cached=True)
        self._keep(asking.key, again)
        for ticket in asking.followers:
            self._of.pop(ticket, None)
        self.tell(asking.followers, again)

    def follow(self, asking: Asking, tickets: Sequence[Ticket]) -> None:
        """A party has gone apart: the first of these is who is asked for, the others ask the same."""
        asking.lead(tickets[0])
        asking.followers += tickets[1:]
        for ticket in tickets:
            self._of[ticket] = asking
            self._deadlines.watch(ticket.call.deadline)

    def left(self, unknown: Unknown) -> None:
        """See :class:`Memory`."""
        del self._boarded[id(unknown.party)]

    def count(self, tenant: str, requests: int, rows: int) -> None:
        """Count answers that took no computing."""
        self._tally.add(tenant, {"requests": requests, "rows": rows, "compute_us": 0})

    def failed(self, asking: Asking, error: MofangError) -> None:
        """Tell the one it was computed for; the others are computed by themselves: it may be her fault, or her time."""
        self._forget(asking)
        if asking.ticket is not None and not asking.ticket.done():
            asking.ticket.set_exception(error)
        self._go_on_without(asking)

    def tell(self, tickets: Sequence[Ticket], answer: Answer) -> None:
        """Give an answer that took no computing, and count it."""
        waiting = [ticket for ticket in tickets if not ticket.done()]
        count_answers(self._tally, ((ticket, answer) for ticket in waiting), tuple(METERED & answer.outputs.keys()))
        for ticket in waiting:
            if not ticket.done():
                ticket.set_result(answer)

    def _recall(self, key: bytes) -> Answer | None:
        if found := self._known.get(key):
            self._known.move_to_end(key)
            return found[0]
        return None

    def _ask(self, asking: Asking, ticket: Ticket) -> None:
        self._asking[asking.key] = asking
        self._of[ticket] = asking
        try:
            self._inner.admit(asking)
        except MofangError:
            self._forget(asking)
            raise

    def _forget(self, asking: Asking) -> None:
        self._asking.pop(asking.key, None)
        if asking.ticket is not None:
            self._of.pop(asking.ticket, None)

    def _go_on_without(self, asking: Asking) -> None:
        waiting = [ticket for ticket in asking.followers if not ticket.done()]
        for ticket in asking.followers:
            self._of.pop(ticket, None)
        for ticket in waiting:
            try:
                self.admit(ticket)
            except MofangError as error:
                ticket.set_exception(error)

    def _keep(self, key: bytes, answer: Answer) -> None:
        size = _ENTRY_BYTES + sum(size_bytes(array) for array in answer.outputs.values())
        if size > self._max_bytes:
            return
        self._known[key] = answer, size
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._known.popitem(last=False)
            self._bytes -= freed

    def _followers(self) -> Iterator[Ticket]:
        for asking in self._asking.values():
            yield from asking.followers


def _keys(party: Party) -> Iterator[bytes]:
    """Yield the key of each call."""
    ends = [0, *accumulate(party.rows_of)]
    tenants = [tenant for tenant, _, count in party.tenants for _ in range(count)]
    for tenant, (start, end) in zip(tenants, pairwise(ends), strict=True):
        yield _key(tenant, {name: array[start:end] for name, array in party.inputs.items()})


def _key(tenant: str, inputs: Mapping[str, Array]) -> bytes:
    """Return what is equal for calls of one tenant with the same inputs, and for no others."""
    digest = blake2b(digest_size=32)
    digest.update(repr(tenant).encode())
    for name in sorted(inputs):
        array = inputs[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        if array.dtype == object:
            for each in array.ravel().tolist():
                digest.update(len(each).to_bytes(8, "little") + (each if isinstance(each, bytes) else each.encode()))
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
