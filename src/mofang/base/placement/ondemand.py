"""Replicas that are loaded when somebody asks, for many models on one machine: the gateway's side.

A sleeping replica has no worker. The first call wakes it: the gateway says so (``wake``), the controller has a worker
started, and the call waits for it as calls wait for a worker that comes back. Who sleeps again is the controller's to
decide (``run/deploy/residency.py``); it goes by when each replica was last asked, which the gateway reports.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.inference import Answer, Call
from mofang.base.placement.base import Placement, ReplicaHandle
from mofang.base.placement.party import Party
from mofang.base.placement.ticket import FutureTicket, Ticket


class WorkerHandle(ReplicaHandle, Protocol):
    """A handle on a worker that may not be there yet: calls wait for it, a bounded time."""

    @property
    def is_connected(self) -> bool:
        """Whether a worker is there and says that it is ready, or loads."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether a worker is there and takes calls."""
        ...


class OnDemandPlacement:
    """Opens what ``spec.limits`` wants loaded on demand as asleep; anything else as ``others`` does.

    ``connect`` makes a handle on a worker, ``wake`` is called when a replica is asked that has none.
    """

    def __init__(
        self, others: Placement, connect: Callable[[ReplicaSpec], WorkerHandle], wake: Callable[[], None]
    ) -> None:
        self._others = others
        self._connect = connect
        self._wake = wake
        self._replicas: dict[str, SleepingReplica] = {}

    async def open(self, spec: ReplicaSpec) -> ReplicaHandle:
        """See :meth:`Placement.open`; what is loaded on demand is open at once."""
        if spec.limits.on_demand:
            replica = self._replicas[spec.id] = SleepingReplica(spec, self._connect, self._wake, self._forget)
            return replica
        return await self._others.open(spec)

    def _forget(self, replica: SleepingReplica) -> None:
        if self._replicas.get(replica.id) is replica:
            del self._replicas[replica.id]

    def asked(self) -> dict[str, float]:
        """Return when each revision (by its key) was last asked, on time.monotonic(): now, if a call waits.

        Those that were never asked are left out. Called now and then: replicas whose worker has gone let go of it here.
        """
        now = time.monotonic()
        asked: dict[str, float] = {}
        for replica_id, replica in self._replicas.items():
            key = replica_id.rpartition("/")[0]
            at = now if replica.load else replica.asked_at
            if at:
                asked[key] = max(asked.get(key, 0.0), at)
            replica.rest()
        return asked

    def waiting(self) -> frozenset[str]:
        """Return the revisions (by key) of which calls wait for a worker that is not ready."""
        return frozenset(key.rpartition("/")[0] for key, replica in self._replicas.items() if replica.waits)


class SleepingReplica:
    """A :class:`ReplicaHandle` that connects to its worker when it is asked."""

    def __init__(
        self,
        spec: ReplicaSpec,
        connect: Callable[[ReplicaSpec], WorkerHandle],
        wake: Callable[[], None],
        closed: Callable[[SleepingReplica], None],
    ) -> None:
        self._spec = spec
        self._closed = closed
        self.id = spec.id
        self.asked_at = 0.0
        self._connect = connect
        self._wake = wake
        self._inner: WorkerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def load(self) -> int:
        """See :class:`ReplicaHandle`."""
        return 0 if self._inner is None else self._inner.load

    @property
    def waits(self) -> bool:
        """Whether calls wait for a worker that is not ready."""
        return self._inner is not None and not self._inner.is_ready and self._inner.load > 0

    def rest(self) -> None:
        """Let go of a worker that has gone, so that nobody looks for it until the next call."""
        if self._inner is not None and not self._inner.is_connected and not self._inner.load:
            self._let_go(self._inner)

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """See :class:`ReplicaHandle`."""
        ticket = FutureTicket(call, asyncio.get_running_loop())
        self.admit(ticket)
        return ticket

    def admit(self, ticket: Ticket) -> None:
        """See :class:`ReplicaHandle`; the call waits if there is no worker yet."""
        self._awake().admit(ticket)

    def board(self, party: Party) -> bool:
        """See :class:`ReplicaHandle`."""
        return self._awake().board(party)

    def takes(self, rows: int) -> bool:
        """See :class:`ReplicaHandle`: not while it sleeps."""
        return self._inner is not None and self._inner.takes(rows)

    def part(self, party: Party) -> None:
        """See :class:`ReplicaHandle`."""
        if self._inner is not None:
            self._inner.part(party)

    def drop(self, ticket: Ticket) -> None:
        """See :class:`ReplicaHandle`."""
        if self._inner is not None:
            self._inner.drop(ticket)

    async def close(self) -> None:
        """See :class:`ReplicaHandle`."""
        if self._inner is not None:
            await self._inner.close()
        self._closed(self)
        await asyncio.gather(*self._closing)

    def _awake(self) -> WorkerHandle:
        self.asked_at = time.monotonic()
        inner = self._inner
        if inner is not None and inner.is_connected:
            return inner
        self._wake()
        if inner is None or not inner.load:  # a new one looks for the worker often, an old one seldom
            if inner is not None:
                self._let_go(inner)
            inner = self._inner = self._connect(self._spec)
        return inner

    def _let_go(self, inner: WorkerHandle) -> None:
        self._inner = None
        task = asyncio.ensure_future(inner.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
