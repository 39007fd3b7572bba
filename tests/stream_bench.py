"""A gateway's way to a scripted language model and back, over a real socket, in one event loop; for tests."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from mofang.base.domain.access import KeyEntry
from mofang.base.domain.deployment import EndpointRoutes, ReplicaLimits, ReplicaSpec, Revision, Route, Snapshot
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import new_key
from mofang.base.placement.streamhost import host_streams
from mofang.base.placement.streamprocess import StreamPlacement
from mofang.base.placement.streams import StreamReplica
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import admit_by_role
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.generate import Generator
from mofang.run.serve.lane import Lane
from mofang.run.serve.visits import Visit
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream
from mofang.surface.protocols.openai.rest import OpenAi
from mofang.surface.server.telemetry import Telemetry
from scripted_generator import ScriptedGenerator

Reply = HttpResponse | HttpStream
KEY = new_key()
NONE: Mapping[str, str] = MappingProxyType({})


class NoPlacement:
    """Of models that are none of ours."""

    async def open(self, spec: ReplicaSpec) -> Any:
        raise AssertionError(spec)


class Bench:
    """Endpoint ``smol`` on a worker that listens; what was recorded and observed."""

    def __init__(self, folder: Path, speaker: Any = None, **engine: Any) -> None:
        self.engine = speaker or ScriptedGenerator(**engine)
        self.records: list[UsageRecord] = []
        self.asked = 0
        self.visits: list[Visit] = []
        self.observed: list[tuple[str, str]] = []
        self.telemetry = Telemetry()
        self.journal_error: Exception | None = None
        self._socket = str(folder / "s")
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        placement = StreamPlacement(NoPlacement(), lambda: ["scripted"])
        self.fleet = Fleet("g", {"process": placement}, self._changed.set)
        self.deputies = b"secret of those who ask on behalf of keys"
        self.lane = Lane(self.fleet, admit=admit_by_role, record=self.record, observe=self.observe,
                         watch=lambda trace: self.visits.append, deputies=self.deputies)  # fmt: skip
        self.generator = Generator(self.fleet, admit=admit_by_role, record=self.record, observe=self.observe,
                                   listen=self.telemetry.listen, hear=self.telemetry.hear,
                                   watch=lambda trace: self.visits.append)  # fmt: skip
        self.once = Once(folder / "once", 3600)
        self.api = OpenAi(self.lane, self.generator, once=self.once)

    async def start(self) -> None:
        """Start the worker, and wait until the gateway has opened it."""
        self.host()
        revision = Revision("smol", 1, "m", 1, "sha256:abc", "scripted", TEXT_SIGNATURE, created_at=5_000_000)
        spec = ReplicaSpec("smol/1/0", "scripted", "", "process", ReplicaLimits(), self._socket)
        routes = EndpointRoutes("smol", {1: Route(revision, (spec,))}, {1: 100})
        keys = {KEY.id: KeyEntry(KEY.id, KEY.secret_sha256, "acme", "shop", "consumer")}
        self.fleet.adopt(Snapshot(1, {"smol": routes}, keys))
        await self.until(lambda: self.fleet.settled)

    def host(self) -> None:
        """Start the worker."""
        self._stop = asyncio.Event()
        replica = StreamReplica(self.engine, ReplicaLimits())
        self.hosting = asyncio.create_task(host_streams(lambda: replica, TEXT_SIGNATURE, self._socket, stop=self._stop))

    async def drain(self) -> None:
        """Stop the worker."""
        self._stop.set()
        await self.hosting

    async def close(self) -> None:
        """End everything."""
        await self.fleet.close()
        await self.drain()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop run until ``holds``."""
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 (what changes it sets no event)
                await asyncio.sleep(0)

    async def ask(self, path: str, method: str = "POST", *, key: str = KEY.text, **body: Any) -> Reply:
        """Ask as a client does."""
        content = msgspec.json.encode(body) if method == "POST" else b""
        return await self.ask_raw(path, content, method, key)

    async def ask_raw(
        self, path: str, content: bytes, method: str = "POST", key: str = KEY.text, headers: Mapping[str, str] = NONE
    ) -> Any:
        """Ask with a body of any bytes."""
        self.asked += 1
        request = HttpRequest(method, path, "", {"authorization": f"Bearer {key}", **headers}, content)
        return await self.api.respond(request, f"req_{self.asked:026d}")

    def record(self, usage: UsageRecord, written: Callable[[Exception | None], None]) -> None:
        self.records.append(usage)
        asyncio.get_running_loop().call_soon(written, self.journal_error)

    def observe(self, endpoint: str, outcome: str, seconds: float) -> None:
        self.observed.append((endpoint, outcome))


def run(scenario: Callable[[Bench], Awaitable[None]], **engine: Any) -> None:
    """Run ``scenario`` on a bench that was started."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder), **engine)
            await bench.start()
            try:
                await scenario(bench)
            finally:
                await bench.close()

    asyncio.run(main())


def read(reply: Any) -> Any:
    """Return the JSON of an answer."""
    return msgspec.json.decode(reply.body)


async def events(reply: Any) -> list[Any]:
    """Return what the events of a stream say; "[DONE]" as it is."""
    assert isinstance(reply, HttpStream), reply
    content = b"".join([piece async for piece in reply.chunks])
    lines = [line.rpartition("data: ")[2] for line in content.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else msgspec.json.decode(line) for line in lines]
