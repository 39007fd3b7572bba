"""How the controller tells gateways what to serve, and how they tell it how far they are.

One Unix socket, frames of a 4-byte length and msgpack. Down goes a whole :class:`Snapshot`, or leases of budgets; up
goes a :class:`Word` after every change and once a second. A Snapshot has taken effect when every connected gateway
reports its number or a later one.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from mofang.base.domain.deployment import EMPTY_SNAPSHOT, GatewayReport, Snapshot
from mofang.sell.budget.words import Accounts, Lease
from mofang.surface.server.telemetry import Counts

_LENGTH = struct.Struct("<I")
_WORD_SECONDS = 1.0
_RETRY_SECONDS = 0.2
_APPLY_SECONDS = 5.0
log = logging.getLogger(__name__)


class Word(msgspec.Struct):
    """What a gateway says: how far it is, and what it has counted since it started."""

    report: GatewayReport
    counts: Counts
    accounts: Accounts | None = None


class Told(msgspec.Struct):
    """What the controller says: one of both."""

    snapshot: Snapshot | None = None
    leases: list[Lease] = []


class Lender(Protocol):
    """Who hears how gateways stand with budgets."""

    def heard(self, accounts: Accounts, *, first: bool) -> None:
        """A gateway says how it stands; ``first`` on a new connection."""

    def gone(self, holder: str) -> None:
        """A gateway hung up."""


class Gateways:
    """The controller's end."""

    lender: Lender  # set before listening
    on_asked: Callable[[], None] = staticmethod(lambda: None)  # called when a revision loaded on demand was asked

    def __init__(self) -> None:
        self._holders: dict[str, asyncio.StreamWriter] = {}
        self.words: dict[str, Word] = {}
        self._snapshot = EMPTY_SNAPSHOT
        self._writers: dict[asyncio.StreamWriter, str] = {}
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def listen(self, socket: Path) -> None:
        """Let gateways connect; each gets the current Snapshot at once."""
        socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, path=str(socket))

    def send(self, snapshot: Snapshot) -> None:
        """Send a Snapshot to every gateway, now and when one connects."""
        self._snapshot = snapshot
        frame = _frame(Told(snapshot))
        for writer in self._writers:
            writer.write(frame)

    def lend(self, holder: str, leases: list[Lease]) -> None:
        """Send leases to a gateway, if it is connected; else it will say again what it lacks."""
        writer = self._holders.get(holder)
        if writer is not None and leases:
            writer.write(_frame(Told(leases=leases)))

    async def applied(self, number: int) -> None:
        """Return when each gateway has taken Snapshot ``number``, or one has been silent for too long.

        One that hangs must not hold up a revocation everywhere else; it answers nobody either.
        """
        try:
            async with asyncio.timeout(_APPLY_SECONDS):
                await self.wait(lambda word: word.report.number >= number)
        except TimeoutError:
            log.warning("a gateway has not taken snapshot %d within %.0f s", number, _APPLY_SECONDS)

    async def wait(self, holds: Callable[[Word], bool]) -> None:
        """Return when ``holds`` is true of every connected gateway's last word."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(holds(self.words[name]) for name in self._connected()))

    async def wait_any(self) -> None:
        """Return when at least one gateway is connected."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._connected()))

    async def close(self) -> None:
        """Stop listening and hang up."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    def _connected(self) -> list[str]:
        return [name for name in self._writers.values() if name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers[writer] = ""
        if self._snapshot.number:
            writer.write(_frame(Told(self._snapshot)))
        try:
            while True:
                word = msgspec.msgpack.decode(await _read(reader), type=Word)
                self._writers[writer] = word.report.gateway
                before = self.words.get(word.report.gateway)
                self.words[word.report.gateway] = word
                if word.report.asked != (before.report.asked if before is not None else {}):
                    self.on_asked()
                self._hear(word.accounts, writer)
                await self._notify()
        except (asyncio.IncompleteReadError, ConnectionError):
            self._writers.pop(writer, None)
            for holder in [holder for holder, each in self._holders.items() if each is writer]:
                del self._holders[holder]
                self.lender.gone(holder)
            await self._notify()
        finally:
            writer.close()

    def _hear(self, accounts: Accounts | None, writer: asyncio.StreamWriter) -> None:
        if accounts is not None:
            first = self._holders.get(accounts.holder) is not writer
            self._holders[accounts.holder] = writer
            self.lender.heard(accounts, first=first)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class ControllerLink:
    """A gateway's end: keeps a connection, takes Snapshots, sends words."""

    def __init__(
        self,
        socket: Path,
        take: Callable[[Snapshot], None],
        borrow: Callable[[list[Lease]], None],
        word: Callable[[], Word],
    ) -> None:
        self._socket = socket
        self._take = take
        self._borrow = borrow
        self._word = word
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Send a word soon."""
        self._news.set()

    async def run(self) -> None:
        """Stay connected for ever; without a controller the last Snapshot goes on being served."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            try:
                await _first_to_end(self._listen(reader), self._speak(writer))
            except (asyncio.IncompleteReadError, ConnectionError):
                await asyncio.sleep(_RETRY_SECONDS)
            finally:
                writer.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            told = msgspec.msgpack.decode(await _read(reader), type=Told)
            if told.snapshot is not None:
                self._take(told.snapshot)
            self._borrow(told.leases)

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._news.clear()
            writer.write(_frame(self._word()))
            await writer.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(_WORD_SECONDS):
                    await self._news.wait()


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Keep a Snapshot for gateways that start while the controller is away."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.msgpack.encode(snapshot))
    partial.replace(path)


def load_snapshot(path: Path) -> Snapshot:
    """Return the Snapshot that was kept; an empty one if there is none or it is of another version of Mofang."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Snapshot)
    except (FileNotFoundError, msgspec.MsgspecError):
        return EMPTY_SNAPSHOT


def _frame(message: Told | Word) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


async def _first_to_end(*coroutines: Awaitable[None]) -> None:
    """Run all until one ends or fails; cancel the others and raise what it raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
