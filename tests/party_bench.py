"""The parts of a gateway on a real socket, with an engine of a test's own, and clients who ask in the same turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from mofang.base.domain.access import AccessLimits, KeyEntry
from mofang.base.domain.budget import Budget
from mofang.base.domain.deployment import EndpointRoutes, ReplicaLimits, ReplicaSpec, Revision, Route, Snapshot
from mofang.base.domain.errors import StorageFull
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import NewKey, new_key
from mofang.base.placement.thread import ThreadPlacement
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.lane import Lane
from mofang.run.serve.visits import Visit
from mofang.sell.budget.purse import Purse
from mofang.sell.meter.admission import Admission
from mofang.sell.meter.codec import decode
from mofang.sell.meter.recorder import Recorder
from mofang.surface.protocols.oip.rest import OipRest
from mofang.surface.server.exchange import Direct
from mofang.surface.server.listener import HttpServer
from mofang.surface.server.telemetry import Telemetry

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 3)),))
ADA, ZOE = new_key(), new_key()


class Countable(Protocol):
    """An engine that keeps the rows of each call."""

    calls: list[int]

    @property
    def signature(self) -> Signature: ...

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def close(self) -> None: ...


class MemoryJournal:
    """A journal in memory that can be full."""

    def __init__(self) -> None:
        self.buffer: list[bytes] = []
        self.records: list[UsageRecord] = []
        self.payloads = 0
        self.full = False

    def append(self, payload: bytes) -> None:
        self.buffer.append(payload)

    def flush(self) -> None:
        payloads, self.buffer = self.buffer, []
        if self.full and payloads:
            raise StorageFull("the disk is full", retry_after_seconds=5)
        for payload in payloads:
            self.records += decode(payload)
        self.payloads += len(payloads)

    def close(self) -> None:
        self.flush()


def snapshot(
    number: int,
    *keys: NewKey,
    limits: tuple[AccessLimits, ...] = (),
    rows: int = 64,
    signature: Signature = SIGNATURE,
    budgets: tuple[Budget, ...] = (),
    cache_bytes: int = 0,
) -> Snapshot:
    bounds = ReplicaLimits(max_batch_rows=rows, cache_bytes=cache_bytes)
    revision = Revision("sum", 1, "m", 1, "sha256:1", "test", signature, placement="thread", limits=bounds)
    route = Route(revision, (ReplicaSpec("sum/1/0", "test", "/1", "thread", bounds),))
    tenants = {ADA.id: "acme", ZOE.id: "zoo"}
    entries = {key.id: KeyEntry(key.id, key.secret_sha256, tenants[key.id], "shop", "consumer") for key in keys}
    return Snapshot(number, {"sum": EndpointRoutes("sum", {1: route}, {1: 100})}, entries, limits, budgets)


class Bench:
    """A gateway's parts on a real socket, and clients who all ask in the same turn."""

    def __init__(self, rows: int, engine: Countable, cache_bytes: int = 0) -> None:
        self.engine = engine
        self.journal = MemoryJournal()
        self.telemetry = Telemetry()
        self.visits: list[Visit] = []
        self.fleet = Fleet("g", {"thread": ThreadPlacement(lambda *_: self.engine)}, lambda: None)
        self.fleet.adopt(snapshot(1, ADA, ZOE, rows=rows, signature=engine.signature, cache_bytes=cache_bytes))
        admission = Admission(lambda: self.fleet.snapshot)
        self.purse = Purse(admission.admit, lambda: self.fleet.snapshot, "g", lambda: None)
        recorder = Recorder(self.journal)
        self.lane = Lane(
            self.fleet,
            admit=self.purse.admit,
            record=recorder.record,
            record_all=recorder.record_all,
            observe=self.telemetry.observe,
            watch=lambda _: self.visits.append,
        )
        self.rest = rest = OipRest(self.lane, admission.standing)
        direct = Direct(rest.start, rest.note)
        self.server = HttpServer(lambda _: direct)
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, clients: int) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        await self.server.serve(sock)
        async with asyncio.timeout(10):
            while not self.fleet.settled:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        self.streams = [await asyncio.open_connection(*sock.getsockname()) for _ in range(clients)]

    async def ask(self, *requests: bytes) -> list[tuple[int, dict[str, str], bytes]]:
        """Send each request on a connection of its own, all before the server reads any; return the answers."""
        for (_, writer), request in zip(self.streams, requests, strict=False):
            writer.write(request)
        return [await read(reader) for (reader, _), _ in zip(self.streams, requests, strict=False)]

    async def warm(self, *requests: bytes) -> None:
        """Have these heads and bodies known, and the engine measured."""
        for _ in range(3):
            await self.ask(*requests)
        self.engine.calls.clear()
        self.journal.records.clear()
        self.journal.payloads = 0


async def read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status, *lines = head.strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status[9:12]), headers, await reader.readexactly(int(headers["content-length"]))


def post(body: bytes, key: NewKey, more: str = "") -> bytes:
    return (
        f"POST /v2/models/sum/infer HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key.text}\r\n{more}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def run(
    scenario: Callable[[Bench], Awaitable[None]],
    engine: Countable,
    clients: int = 8,
    rows: int = 64,
    cache_bytes: int = 0,
) -> None:
    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        made = Bench(rows, engine, cache_bytes)
        await made.open(clients)
        try:
            yield made
        finally:
            for _, writer in made.streams:
                writer.close()
            await made.server.close()
            await made.fleet.close()

    async def main() -> None:
        async with bench() as made:
            await scenario(made)

    asyncio.run(main())
