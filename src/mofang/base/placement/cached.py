"""Answers that were given before, for endpoints whose owner wants that: nothing is computed twice.

Wraps any replica. A call that asks what the same tenant has asked before gets that answer; one that asks what is being
computed just now gets that answer when it is there. Both are answers like any other, recorded and paid, but for the
engine's time: there was none. A replica serves one version, so that a key need not name it; tenants share nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec
import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import size_bytes
from mofang.base.domain.usage import METERED
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.deadlines import Deadlines
from mofang.base.placement.party import Party
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
        self._asking: dict[bytes, _Asking] = {}
        self._of: dict[Ticket, _Asking] = {}
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
        key = _key(ticket.call)
        if found := self._known.get(key):
            self._known.move_to_end(key)
            self._tell([ticket], found[0])
        elif asking := self._asking.get(key):
            asking.followers.append(ticket)
            self._of[ticket] = asking
            self._deadlines.watch(ticket.call.deadline)
        else:
            self._ask(_Asking(self, key, ticket))

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

    def board(self, party: Party) -> bool:
        """See :class:`ReplicaHandle`: never, since none is taken."""
        return False

    def takes(self, rows: int) -> bool:
        """See :class:`ReplicaHandle`: each call is looked at by itself."""
        return False

    def part(self, party: Party) -> None:
        """See :class:`ReplicaHandle`."""

    async def close(self) -> None:
        """See :class:`ReplicaHandle`."""
        await self._inner.close()
        self._tally.close()
        self._deadlines.close()

    # --- what the inner replica tells ---------------------------------------------------------------------------------

    def answered(self, asking: _Asking, answer: Answer) -> None:
        """Tell all who asked, and keep the answer."""
        self._forget(asking)
        outputs = {name: np.array(array) for name, array in answer.outputs.items()}  # not the batch it is part of
        again = msgspec.structs.replace(answer, outputs=outputs, compute_us=0, queue_us=0, is_cached=True)
        self._keep(asking.key, again)
        for ticket in asking.followers:
            self._of.pop(ticket, None)
        self._tell(asking.followers, again)
        if not asking.ticket.done():
            asking.ticket.set_result(answer)

    def failed(self, asking: _Asking, error: MofangError) -> None:
        """Tell the one it was computed for; the others are computed by themselves: it may be her fault, or her time."""
        self._forget(asking)
        if not asking.ticket.done():
            asking.ticket.set_exception(error)
        self._go_on_without(asking)

    def _tell(self, tickets: Sequence[Ticket], answer: Answer) -> None:
        """Give an answer that took no computing, and count it."""
        waiting = [ticket for ticket in tickets if not ticket.done()]
        count_answers(self._tally, ((ticket, answer) for ticket in waiting), tuple(METERED & answer.outputs.keys()))
        for ticket in waiting:
            if not ticket.done():
                ticket.set_result(answer)

    def _ask(self, asking: _Asking) -> None:
        self._asking[asking.key] = asking
        self._of[asking.ticket] = asking
        try:
            self._inner.admit(asking)
        except MofangError:
            self._forget(asking)
            raise

    def _forget(self, asking: _Asking) -> None:
        self._asking.pop(asking.key, None)
        self._of.pop(asking.ticket, None)

    def _go_on_without(self, asking: _Asking) -> None:
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


@dataclass(slots=True, eq=False)
class _Asking:
    """The ticket that the inner replica holds, for the first who asked and for those who came after her."""

    replica: CachedReplica
    key: bytes
    ticket: Ticket
    followers: list[Ticket] = field(default_factory=list)
    number: int = 0
    queued_at: float = 0.0
    call: Call = field(init=False)
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.call, self.size_bytes = self.ticket.call, self.ticket.size_bytes

    def done(self) -> bool:
        return self.ticket.done()

    def set_result(self, answer: Answer, /) -> None:
        self.replica.answered(self, answer)

    def set_exception(self, error: MofangError, /) -> None:
        self.replica.failed(self, error)


def _key(call: Call) -> bytes:
    """Return what is equal for calls of one tenant with the same inputs, and for no others."""
    digest = blake2b(digest_size=32)
    digest.update(repr(call.tenant).encode())
    for name in sorted(call.inputs):
        array = call.inputs[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        if array.dtype == object:
            for each in array.ravel().tolist():
                digest.update(len(each).to_bytes(8, "little") + (each if isinstance(each, bytes) else each.encode()))
        else:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
