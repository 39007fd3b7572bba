"""The gateway's side of a language model in a worker (``streamhost.py`` is the other side).

An order is written at once; what the worker says is handed to the listener of the stream it is for. If the connection
is lost, every stream ends with ReplicaLost, since nobody can say what would have come; while there is none, orders are
refused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.errors import (
    Draining,
    NotGenerative,
    ReplicaLost,
    ReplicaUnavailable,
)
from mofang.base.domain.generation import Delta, Occupancy, Order, Profile
from mofang.base.domain.inference import Answer, Call
from mofang.base.placement.base import Placement, ReplicaHandle, StreamListener
from mofang.base.placement.connection import Connection, stay_connected
from mofang.base.placement.frames import Frame, FrameError, encode
from mofang.base.placement.headers import Begin, Begun, Deltas, Forget, Hello, Occupied, Proceed, Refuse
from mofang.base.placement.party import Party
from mofang.base.placement.ticket import Ticket


class StreamPlacement:
    """Opens replicas of language models (engines called as ``names`` says); leaves all others to ``others``."""

    def __init__(self, others: Placement, names: Callable[[], Collection[str]]) -> None:
        self._others = others
        self._names = names

    async def open(self, spec: ReplicaSpec) -> ReplicaHandle:
        """See :meth:`Placement.open`. Waits as long as the worker says that it is loading."""
        if spec.engine not in self._names():
            return await self._others.open(spec)
        replica = StreamProcess(spec)
        try:
            await replica.ready()
        except BaseException:
            await replica.close()
            raise
        return replica


class StreamProcess:
    """A :class:`ReplicaHandle` and :class:`StreamHandle` on the socket of a language model's worker."""

    def __init__(self, spec: ReplicaSpec) -> None:
        loop = asyncio.get_running_loop()
        self._spec = spec
        self.profile: Profile | None = None  # as soon as it was ready once
        self._occupancy: Occupancy | None = None  # the last that was told on this connection
        self._connection: Connection | None = None  # while the worker is ready
        self._numbers = itertools.count(1)
        self._listeners: dict[int, StreamListener] = {}
        self._opened: asyncio.Future[None] = loop.create_future()
        self._idle: asyncio.Future[None] | None = None  # what close() awaits
        self._broken = "its worker is starting"
        self._ended = asyncio.Event()  # set while there is no connection
        self._connecting = loop.create_task(stay_connected(self, spec.socket, self._ended), name=f"connect {spec.id}")

    @property
    def load(self) -> int:
        """Streams that have not ended."""
        return len(self._listeners)

    @property
    def occupancy(self) -> Occupancy:
        """See :class:`StreamHandle`."""
        room = self.profile.cache_tokens if self.profile is not None else 0
        return self._occupancy or Occupancy(room_tokens=room)

    async def ready(self) -> None:
        """Wait for the first time the worker is ready. Raises what it failed with."""
        await self._opened

    def begin(self, order: Order, listener: StreamListener) -> int:
        """See :meth:`StreamHandle.begin`."""
        if self._idle is not None:
            raise Draining("the replica takes no more requests")
        if self._connection is None:
            raise ReplicaUnavailable(f"replica {self._spec.id!r}: {self._broken}", retry_after_seconds=1)
        number = next(self._numbers)
        self._listeners[number] = listener
        self._connection.write([encode(Begin(number, order))])
        return number

    def proceed(self, numbers: Sequence[int]) -> None:
        """See :meth:`StreamHandle.proceed`."""
        if self._connection is not None:  # else they were told already
            self._connection.write([encode(Proceed(list(numbers)))])

    def forget(self, number: int) -> None:
        """See :meth:`StreamHandle.forget`."""
        if self._listeners.pop(number, None) is not None:
            if self._connection is not None:
                self._connection.write([encode(Forget([number]))])
            self._settle()

    def submit(self, call: Call) -> asyncio.Future[Answer]:
        """See :meth:`ReplicaHandle.submit`: raises NotGenerative, as :meth:`admit`."""
        raise _no_tensors(self._spec)

    def admit(self, ticket: Ticket) -> None:
        """See :meth:`ReplicaHandle.admit`: a language model takes no tensors."""
        raise _no_tensors(self._spec)

    def drop(self, ticket: Ticket) -> None:
        """See :meth:`ReplicaHandle.drop`: none was admitted."""

    def takes(self, rows: int) -> bool:
        """See :meth:`ReplicaHandle.takes`: no tensors, so no parties either."""
        return False

    def board(self, party: Party) -> bool:
        """See :meth:`ReplicaHandle.board`."""
        return False

    def part(self, party: Party) -> None:
        """See :meth:`ReplicaHandle.part`: none is ever under way."""

    async def close(self) -> None:
        """Wait until the streams that were taken have ended, then disconnect."""
        if self._idle is None:
            self._idle = asyncio.get_running_loop().create_future()
            self._settle()
        await asyncio.shield(self._idle)
        self._connecting.cancel()
        await asyncio.wait([self._connecting])
        await self._ended.wait()

    # --- what the worker says (a Listener of the connection) ----------------------------------------------------------

    def hear(self, connection: Connection, frame: Frame) -> None:
        """Take in a frame."""
        header = frame[0]
        if isinstance(header, Deltas):
            for delta in header.deltas:
                self._add(delta)
        elif isinstance(header, Begun):
            if (listener := self._listeners.get(header.id)) is not None:
                listener.begun(header.input_tokens, header.output_tokens)
        elif isinstance(header, Refuse):
            if (listener := self._listeners.pop(header.id, None)) is not None:
                listener.fail(header.fault.error())
                self._settle()
        elif isinstance(header, Occupied):
            self._occupancy = header.occupancy
        elif isinstance(header, Hello):
            self._greeted(connection, header)
        else:
            raise FrameError(f"a worker does not say {type(header).__name__}")

    def writable(self, connection: Connection) -> None:
        """Nothing waits here to be written."""

    def lost(self, connection: Connection) -> None:
        """End every stream."""
        self._connection, self._broken = None, "its worker is being replaced"
        self._occupancy = None
        self._ended.set()
        lost, self._listeners = self._listeners, {}
        for listener in lost.values():
            listener.fail(ReplicaLost(f"the worker of {self._spec.id!r} died while it had the request"))
        self._settle()

    def _add(self, delta: Delta) -> None:
        listener = self._listeners.get(delta.stream)
        if listener is None:
            return  # forgotten meanwhile
        if delta.finish:
            del self._listeners[delta.stream]
        listener.add(delta)
        if delta.finish:
            self._settle()

    def _greeted(self, connection: Connection, hello: Hello) -> None:
        self._connection = connection if hello.state in ("ready", "draining") else None
        self._broken = f"its worker is {hello.state}"
        self.profile = hello.profile or self.profile
        if hello.state == "ready" and not self._opened.done():
            self._opened.set_result(None)
        if hello.state == "failed":
            error = hello.fault.error() if hello.fault else ReplicaUnavailable("the worker failed")
            self._broken = error.message
            if not self._opened.done():
                self._opened.set_exception(error)

    def _settle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self._listeners:
            self._idle.set_result(None)


def _no_tensors(spec: ReplicaSpec) -> NotGenerative:
    return NotGenerative(
        f"the model of {spec.id.partition('/')[0]!r} generates text: it is asked under /v1, or as a stream",
        hint="use an OpenAI client, POST .../generate, or ModelStreamInfer with the input text_input",
    )
