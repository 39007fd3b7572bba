"""The seam of placements: where an engine runs.

A gateway opens a replica through a placement and holds a handle; it never knows whether the engine computes in a thread
of its own process or in a worker. ``thread.py`` and ``process.py`` are the two built-in placements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.errors import MofangError
from mofang.base.domain.generation import Delta, Occupancy, Order, Profile
from mofang.base.domain.inference import Answer, Call
from mofang.base.placement.party import Party
from mofang.base.placement.ticket import Ticket


class ReplicaHandle(Protocol):
    """What a gateway holds of a replica. Used from one event loop."""

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """Queue ``call`` and return the future of its answer; cancelling the future drops the call.

        Raises Overloaded, DeadlineExceeded, RequestTooLarge, Draining or ReplicaUnavailable at once if the call is
        not taken. The future fails with a MofangError: at the deadline with DeadlineExceeded, whatever the engine does.
        """
        ...

    def admit(self, ticket: Ticket) -> None:
        """Queue the ticket's call; the ticket is told the outcome later. Raises as :meth:`submit`, built on this."""
        ...

    def board(self, party: Party) -> bool:
        """Begin to compute a party, which is told later, or already; False if it must go apart.

        To be called only if the replica :meth:`takes` its rows, in the same turn.
        """
        ...

    def takes(self, rows: int) -> bool:
        """Tell whether a party of so many rows (0: of any) would be computed as one now, since nobody else waits."""
        ...

    def part(self, party: Party) -> None:
        """Have a party that is being computed go apart: one of its members does not wait any more."""
        ...

    def drop(self, ticket: Ticket) -> None:
        """Nobody waits for an admitted ticket any more; it says so itself (``done``)."""
        ...

    @property
    def load(self) -> int:
        """Calls that were taken and are not answered yet."""
        ...

    async def close(self) -> None:
        """Take no more calls, wait until those taken have ended, and let go of everything."""
        ...


class StreamListener(Protocol):
    """Who is told how one stream goes on; after an error or a last delta it is told nothing more."""

    def begun(self, input_tokens: int, output_tokens: int) -> None:
        """The order is good and waits for its turn; its prompt has so many tokens, its answer so many at most.

        One that is ``held`` waits to :meth:`StreamHandle.proceed` first.
        """
        ...

    def add(self, delta: Delta) -> None:
        """Something was said."""
        ...

    def fail(self, error: MofangError) -> None:
        """The stream has ended, and why."""
        ...


@runtime_checkable
class StreamHandle(Protocol):
    """What a gateway holds of a language model's replica besides: it is asked for streams."""

    @property
    def profile(self) -> Profile | None:
        """What the model can do; None until its worker has said so."""
        ...

    @property
    def occupancy(self) -> Occupancy:
        """How full it is with streams of all gateways, as far as it has said so."""
        ...

    def begin(self, order: Order, listener: StreamListener) -> int:
        """Ask for a stream and return its number. Raises ReplicaUnavailable or Draining at once if it is not asked."""
        ...

    def proceed(self, numbers: Sequence[int]) -> None:
        """Have streams computed whose orders were ``held``. They may fail as any that is asked for."""
        ...

    def forget(self, number: int) -> None:
        """Nobody listens to a stream any more; its listener is told nothing more."""
        ...


class Placement(Protocol):
    """A way to place replicas."""

    async def open(self, spec: ReplicaSpec) -> ReplicaHandle:
        """Return a handle once the replica is ready to answer.

        Raises EngineNotFound, EngineLoadFailed, WarmUpFailed or ReplicaUnavailable.
        """
        ...
