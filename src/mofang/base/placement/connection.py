"""A gateway's connection to a worker: frames in, pieces out. Used by ``process.py``, which decides what they mean."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Protocol, cast

from mofang.base.domain.errors import ReplicaUnavailable
from mofang.base.placement.frames import Buffer, Frame, FrameError, FrameReader, encode
from mofang.base.placement.headers import Hello, Mapped
from mofang.base.placement.shared import Sharer, sharer
from mofang.base.placement.wire import WRITE_BUFFER_BYTES, write

_FIRST_DELAY_SECONDS = 0.01  # between attempts to connect; doubles each time
_MAX_DELAY_SECONDS = 0.5
_HURRIED_DELAY_SECONDS = 0.02  # while calls wait for the worker


class Hearer(Protocol):
    """Who is told what comes over a connection."""

    def hear(self, connection: Connection, frame: Frame) -> None:
        """Take in a frame. May raise FrameError, which ends the connection."""
        ...

    def writable(self, connection: Connection) -> None:
        """The worker reads again; called after it did not."""
        ...

    def lost(self, connection: Connection) -> None:
        """The connection has ended; called once."""
        ...


class Listener(Hearer, Protocol):
    """Who stays connected."""

    @property
    def load(self) -> int:
        """Calls that wait for the worker, or that it has."""
        ...


class Connection(asyncio.Protocol):
    """A stream of frames. Whatever is no frame ends it. What is shared over it is its own affair."""

    def __init__(self, listener: Hearer) -> None:
        self._listener = listener
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.sharer: Sharer | None = None
        self.paused = False  # whether the worker does not read what is written

    def write(self, pieces: list[Buffer]) -> None:
        """Write in one go."""
        if self._transport is not None:
            write(self._transport, pieces)

    def abort(self) -> None:
        """End at once; ``lost`` follows."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one, but does not inherit
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._transport = transport
        self.sharer = self._reader.sharer = sharer(transport, offers=False)  # until the worker says that it can map

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        try:
            for frame in self._reader.feed(data):
                if self.sharer is None or not self._settles(frame[0], self.sharer):
                    self._listener.hear(self, frame)
        except FrameError:
            self.abort()
        if self.sharer is not None and (mapped := self.sharer.mapped()):
            self.write([encode(Mapped(mapped))])

    def _settles(self, header: object, sharer: Sharer) -> bool:
        """Take in what concerns sharing; tell whether that was all."""
        if isinstance(header, Mapped):
            sharer.withdraw(header.descriptors)
            return True
        if isinstance(header, Hello):
            sharer.offers = header.maps
        return False

    def pause_writing(self) -> None:
        """See asyncio."""
        self.paused = True

    def resume_writing(self) -> None:
        """See asyncio."""
        self.paused = False
        self._listener.writable(self)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        if self.sharer is not None:
            self.sharer.close()
        self._listener.lost(self)


async def connect(listener: Hearer, socket_path: str | Path) -> Connection:
    """Connect to the worker on ``socket_path``. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_unix_connection(lambda: Connection(listener), str(socket_path))
    return connection


async def stay_connected(listener: Listener, socket_path: str | Path, ended: asyncio.Event) -> None:
    """Connect, and again whenever the connection has ended, until cancelled.

    ``listener`` sets ``ended`` when it is told that its connection is lost; it is set too while there is none.
    """
    delay = _FIRST_DELAY_SECONDS
    while True:
        ended.clear()
        try:
            connection = await connect(listener, socket_path)
        except OSError:
            ended.set()
            delay = min(2 * delay, _HURRIED_DELAY_SECONDS if listener.load else _MAX_DELAY_SECONDS)
        except asyncio.CancelledError:
            ended.set()
            raise
        else:
            delay = _FIRST_DELAY_SECONDS
            try:
                await ended.wait()
            finally:
                connection.abort()
        await asyncio.sleep(delay)


async def probe(socket_path: str | Path, timeout: float) -> Hello:
    """Ask the worker on ``socket_path`` how it stands; raise ReplicaUnavailable if it does not say in ``timeout`` s."""
    prober = _Prober()
    try:
        async with asyncio.timeout(timeout):
            connection = await connect(prober, socket_path)
            try:
                return await prober.heard
            finally:
                connection.abort()
                with contextlib.suppress(OSError):
                    await prober.ended
    except OSError as error:  # TimeoutError is one too
        raise ReplicaUnavailable(f"the worker on {str(socket_path)!r} does not answer: {error!r}") from error


class _Prober:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.heard: asyncio.Future[Hello] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def hear(self, connection: Connection, frame: Frame) -> None:
        if isinstance(frame[0], Hello) and not self.heard.done():
            self.heard.set_result(frame[0])

    def writable(self, connection: Connection) -> None:
        return

    def lost(self, connection: Connection) -> None:
        if not self.heard.done():
            self.heard.set_exception(ConnectionResetError("it closed without a word"))
        self.ended.set_result(None)
