"""The worker's side of a language model: one stream replica, answering any number of gateways on a Unix socket.

The event loop's own thread is the engine's owner: a step is a callback, sockets are read and written between two steps,
and what a step added to all streams of a gateway goes out in one frame. Nothing is handed from thread to thread, since
a step holds the interpreter's lock anyway. Only loading happens in another thread, so that the worker can say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

from mofang.base.domain.errors import Draining, MofangError, ReplicaUnavailable
from mofang.base.domain.generation import Delta
from mofang.base.domain.tensors import Signature
from mofang.base.placement.frames import FrameError, FrameReader, encode
from mofang.base.placement.headers import Begin, Begun, Deltas, Fault, Forget, Hello, Occupied, Proceed, Refuse
from mofang.base.placement.listen import FLUSH_SECONDS, listening, load
from mofang.base.placement.streams import Stream, StreamReplica

_OCCUPANCY_SECONDS = 0.5  # between two words about how full it is
_BUFFER_BYTES = 8 << 20  # a gateway that leaves more unread is let go


async def host_streams(
    replica_factory: Callable[[], StreamReplica], signature: Signature, socket_path: str | Path, *, stop: asyncio.Event
) -> None:
    """Answer on ``socket_path`` until ``stop`` is set, then finish the streams that were taken, and return.

    ``replica_factory`` loads the engine; it is called once, in a thread, and may raise a MofangError, which every
    gateway is told. What it returns is used in this thread only.
    """
    desk = _Desk(signature)
    async with listening(Path(socket_path), lambda: _Gateway(desk)):
        loading = asyncio.create_task(desk.load(replica_factory))
        await stop.wait()
    await loading
    await desk.close()


class _Desk:
    """What all gateways of a worker share: the replica, the steps, and how it stands."""

    def __init__(self, signature: Signature) -> None:
        self.hello = Hello("loading")
        self.gateways: set[_Gateway] = set()
        self.replica: StreamReplica | None = None
        self._signature = signature
        self._stepping = False
        self._told, self._told_at = (0, 0), 0.0  # how many streams, when it was last said
        self._idle: asyncio.Future[None] | None = None  # what close() awaits

    async def load(self, replica_factory: Callable[[], StreamReplica]) -> None:
        loaded = await load(replica_factory)
        if isinstance(loaded, Fault):
            self._announce(Hello("failed", loaded))
        else:
            self.replica = loaded
            self._announce(Hello("ready", signature=self._signature, profile=loaded.profile))

    def submit(self, gateway: _Gateway, number: int, begin: Begin) -> Stream:
        if self.replica is None or self.hello.state != "ready":
            if self.hello.state == "draining":
                raise Draining("the worker is stopping")
            raise ReplicaUnavailable(f"the replica is {self.hello.state}")
        stream = self.replica.submit(gateway, number, begin.order)
        self._go_on()
        return stream

    def proceed(self, stream: Stream) -> None:
        assert self.replica is not None
        try:
            self.replica.proceed(stream)
        finally:
            self._go_on()

    def drop(self, stream: Stream) -> None:
        if self.replica is not None:
            self.replica.drop(stream)
            if self._idle is not None:
                self._go_on()  # it may have been the last

    async def close(self) -> None:
        self._announce(Hello("draining"))
        if self.replica is not None:
            if self.replica.busy or self.replica.held:
                self._idle = asyncio.get_running_loop().create_future()
                self._go_on()
                await self._idle
            self.replica.close()
        closing = [gateway.close() for gateway in self.gateways]
        if closing:
            await asyncio.wait(closing, timeout=FLUSH_SECONDS)
        for gateway in list(self.gateways):
            gateway.abort()

    def _go_on(self) -> None:
        if not self._stepping:
            self._stepping = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        assert self.replica is not None
        told: dict[_Gateway, list[Delta]] = {}
        failed: list[tuple[_Gateway, Stream, MofangError]] = []
        for stream, event in self.replica.step():
            gateway = cast(_Gateway, stream.asker)
            if isinstance(event, Delta):
                told.setdefault(gateway, []).append(event)
                if event.finish:
                    gateway.end(stream)
            else:
                failed.append((gateway, stream, event))
        for gateway, deltas in told.items():
            gateway.write(encode(Deltas(deltas)))
        for gateway, stream, error in failed:  # after what the streams said before
            gateway.fail(stream, error)
        self._stepping = False
        self._tell_occupancy(self.replica)
        if self.replica.busy:
            self._go_on()
        elif self._idle is not None and not self.replica.held and not self._idle.done():
            self._idle.set_result(None)

    def _tell_occupancy(self, replica: StreamReplica) -> None:
        """Tell every gateway how full it is: when streams came or went, and now and then."""
        now, occupancy = asyncio.get_running_loop().time(), replica.occupancy
        streams = occupancy.running, occupancy.waiting
        if streams == self._told and now - self._told_at < _OCCUPANCY_SECONDS:
            return
        self._told, self._told_at = streams, now
        frame = encode(Occupied(occupancy))
        for gateway in self.gateways:
            gateway.write(frame)

    def _announce(self, hello: Hello) -> None:
        self.hello = hello
        for gateway in self.gateways:
            gateway.write(encode(hello))


class _Gateway(asyncio.Protocol):
    """The connection of one gateway."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk
        self._reader = FrameReader()
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit
        self._desk.gateways.add(self)
        self.write(encode(self._desk.hello))

    def data_received(self, data: bytes) -> None:
        try:
            for header, _ in self._reader.feed(data):
                self._take(header)
        except FrameError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._desk.gateways.discard(self)
        for stream in self._streams.values():
            self._desk.drop(stream)
        self._streams.clear()
        self._closed.set_result(None)

    def write(self, frame: bytes) -> None:
        """Write a frame, or let a gateway go that does not read."""
        if self._transport.get_write_buffer_size() > _BUFFER_BYTES:
            self._transport.abort()
        else:
            self._transport.write(frame)

    def end(self, stream: Stream) -> None:
        """Nothing more is said on ``stream``."""
        self._streams.pop(stream.id, None)

    def fail(self, stream: Stream, error: MofangError) -> None:
        """Say why ``stream`` ended."""
        self.end(stream)
        self.write(encode(Refuse(stream.id, Fault.of(error))))

    def close(self) -> asyncio.Future[None]:
        """Close when all that was written has been read; the future is done then."""
        self._transport.close()
        return self._closed

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _take(self, header: object) -> None:
        if isinstance(header, Begin):
            self._begin(header)
        elif isinstance(header, Forget):
            for number in header.ids:
                if stream := self._streams.pop(number, None):
                    self._desk.drop(stream)
        elif isinstance(header, Proceed):
            for number in header.ids:
                if stream := self._streams.get(number):
                    self._proceed(stream)
        else:
            raise FrameError(f"a gateway does not say {type(header).__name__}")

    def _begin(self, begin: Begin) -> None:
        if begin.id in self._streams:
            raise FrameError(f"stream {begin.id} was begun twice")
        try:
            stream = self._desk.submit(self, begin.id, begin)
        except MofangError as error:
            self.write(encode(Refuse(begin.id, Fault.of(error))))
        else:
            self._streams[begin.id] = stream
            self.write(encode(Begun(begin.id, len(stream.prompt), stream.reach - len(stream.prompt))))

    def _proceed(self, stream: Stream) -> None:
        try:
            self._desk.proceed(stream)
        except MofangError as error:
            self.fail(stream, error)
