"""A call while it waits: the call, its size, since when, and whom to tell.

Replicas and queues deal in tickets, so that they need not know whether the one who waits is a coroutine of this process
(:class:`FutureTicket`) or a gateway at the other end of a socket (``host.py``).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from mofang.base.domain.errors import MofangError
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import size_bytes


class Ticket(Protocol):
    """What a queue and a batch hold of a call."""

    call: Call
    size_bytes: int
    queued_at: float  # on time.monotonic(), seconds
    number: int  # free for the use of the replica that admitted it

    def done(self) -> bool:
        """Whether nobody waits any more: answered, failed or cancelled."""
        ...

    def set_result(self, answer: Answer, /) -> None:
        """Give the answer. Called once, and only if not done."""
        ...

    def set_exception(self, error: MofangError, /) -> None:
        """Tell why there is no answer. Called once, and only if not done."""
        ...


class FutureTicket(asyncio.Future[Answer]):
    """A ticket that is itself the future its caller awaits: one object and no callback for each call."""

    __slots__ = ("call", "number", "queued_at", "size_bytes")

    def __init__(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.call = call
        self.size_bytes = call_bytes(call)
        self.queued_at = 0.0
        self.number = 0


def call_bytes(call: Call) -> int:
    """Return how many bytes the inputs of ``call`` hold."""
    total = 0
    for array in call.inputs.values():
        total += size_bytes(array)
    return total
