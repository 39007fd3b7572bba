"""Requests that one turn brought travel together, and nobody can tell from the answers and the records."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofang.base.domain.access import AccessLimits, KeyEntry
from mofang.base.domain.deployment import EndpointRoutes, ReplicaLimits, ReplicaSpec, Revision, Route, Snapshot
from mofang.base.domain.errors import EngineFailed, StorageFull
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import NewKey, new_key
from mofang.base.placement.thread import ThreadPlacement
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.lane import Lane
from mofang.sell.meter.admission import Admission
from mofang.sell.meter.codec import decode
from mofang.sell.meter.recorder import Recorder
from mofang.surface.protocols.oip.rest import OipRest
from mofang.surface.server.exchange import Direct
from mofang.surface.server.listener import HttpServer
from mofang.surface.server.telemetry import Telemetry

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 3)),))
ADA, ZOE = new_key(), new_key()
HUGE = 1e30  # what the engine cannot compute


@dataclass
class Engine:
    """Each row's sum, product and first number; counts what it is asked."""

    signature: Signature = SIGNATURE
    calls: list[int] = field(default_factory=list)
    by_row: bool = True

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = inputs["x"]
        self.calls.append(len(x))
        if (x == np.float32(HUGE)).any():
            raise EngineFailed("too large for me")
        y = np.stack([x.sum(1), x.prod(1), x[:, 0]], axis=1)
        return {"y": y if self.by_row else y[:1]}

    def close(self) -> None:
        """Nothing to let go of."""


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


def snapshot(number: int, *keys: NewKey, limits: tuple[AccessLimits, ...] = (), rows: int = 64) -> Snapshot:
    bounds = ReplicaLimits(max_batch_rows=rows)
    revision = Revision("sum", 1, "m", 1, "sha256:1", "test", SIGNATURE, placement="thread", limits=bounds)
    route = Route(revision, (ReplicaSpec("sum/1/0", "test", "/1", "thread", bounds),))
    tenants = {ADA.id: "acme", ZOE.id: "zoo"}
    entries = {key.id: KeyEntry(key.id, key.secret_sha256, tenants[key.id], "shop", "consumer") for key in keys}
    return Snapshot(number, {"sum": EndpointRoutes("sum", {1: route}, {1: 100})}, entries, limits)


class Bench:
    """A gateway's parts on a real socket, and clients who all ask in the same turn."""

    def __init__(self, rows: int) -> None:
        self.engine = Engine()
        self.journal = MemoryJournal()
        self.telemetry = Telemetry()
        self.fleet = Fleet("g", {"thread": ThreadPlacement(lambda *_: self.engine)}, lambda: None)
        self.fleet.adopt(snapshot(1, ADA, ZOE, rows=rows))
        admission = Admission(lambda: self.fleet.snapshot)
        recorder = Recorder(self.journal)
        self.lane = Lane(
            self.fleet,
            admit=admission.admit,
            record=recorder.record,
            record_all=recorder.record_all,
            observe=self.telemetry.observe,
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


def request(rows: list[list[float]], key: NewKey = ADA, **changes: object) -> bytes:
    data = [number for row in rows for number in row]
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": data}], **changes})
    return post(body.encode(), key)


def binary(rows: list[list[float]], key: NewKey = ADA) -> bytes:
    raw = np.array(rows, np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return post(head + raw, key, f"inference-header-content-length: {len(head)}\r\n")


def post(body: bytes, key: NewKey, more: str = "") -> bytes:
    return (
        f"POST /v2/models/sum/infer HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key.text}\r\n{more}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def data(body: bytes) -> list[float]:
    [output] = json.loads(body)["outputs"]
    assert output["shape"] == [len(output["data"]) // 3, 3]
    return output["data"]


def run(scenario: Callable[[Bench], Awaitable[None]], clients: int = 8, rows: int = 64) -> None:
    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        made = Bench(rows)
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


def test_what_one_turn_brings_is_computed_recorded_and_counted_once() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 2]], ADA if n % 2 else ZOE) for n in range(8)]
        await bench.warm(*asked)
        answers = await bench.ask(*asked)
        assert bench.engine.calls == [8]
        assert bench.journal.payloads == 2  # one sheet for each key
        assert [data(body) for _, _, body in answers] == [[n + 2, n * 2, n] for n in range(8)]
        assert [status for status, _, _ in answers] == [200] * 8
        records = {record.request_id: record for record in bench.journal.records}
        assert [records[headers["x-request-id"]].key_id for _, headers, _ in answers] == [ZOE.id, ADA.id] * 4
        assert len(records) == len(bench.journal.records) == 8
        for record in records.values():
            assert record.quantities["rows"] == record.quantities["requests"] == 1
            assert (record.quantities["output_bytes"], record.digest, record.outcome) == (12, "sha256:1", "ok")
        assert {headers["mofang-digest"] for _, headers, _ in answers} == {"sha256:1"}
        [entry] = bench.lane.statistics(bench.lane.authenticate(f"Bearer {ADA.text}"), "sum")
        assert entry["inference_stats"]["success"]["count"] == 32
        assert bench.telemetry.counts(0, 0).series[0].count == 32
        assert bench.fleet.in_flight == 0

    run(scenario)


numbers = st.floats(-(2.0**50), 2.0**50, width=32)
bodies = st.lists(st.lists(st.tuples(numbers, numbers).map(list), min_size=1, max_size=5), min_size=8, max_size=8)


@settings(max_examples=15, deadline=None)
@given(bodies, st.lists(st.booleans(), min_size=8, max_size=8))
def test_answers_are_the_same_to_the_byte_as_alone(asked: list[list[list[float]]], as_binary: list[bool]) -> None:
    async def scenario(bench: Bench) -> None:
        made = [binary(rows) if raw else request(rows) for rows, raw in zip(asked, as_binary, strict=True)]
        alone = [(await bench.ask(each))[0] for each in made]
        await bench.warm(*made)
        together = await bench.ask(*made)
        assert [(status, body) for status, _, body in together] == [(status, body) for status, _, body in alone]

    run(scenario, rows=16)


def test_a_bad_one_fails_alone_and_is_not_billed() -> None:
    async def scenario(bench: Bench) -> None:
        good = [request([[n, 1]]) for n in range(5)]
        bad = [request([[HUGE, 1]]), request([[1e39, 1]]), request([["a", 1]]), request([[1, 2], [3]])]  # type: ignore
        await bench.warm(*good)
        answers = await bench.ask(*good, *bad)
        assert [status for status, _, _ in answers] == [200] * 5 + [500, 400, 400, 400]
        assert [data(body) for _, _, body in answers[:5]] == [[n + 1, n, n] for n in range(5)]
        assert len(bench.journal.records) == 5
        assert bench.fleet.in_flight == 0

    run(scenario, clients=9)


def test_a_full_disk_gives_nothing_away() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]]) for n in range(4)]
        await bench.warm(*asked)
        bench.journal.full = True
        assert [status for status, _, _ in await bench.ask(*asked)] == [503] * 4
        bench.journal.full = False
        assert [status for status, _, _ in await bench.ask(*asked)] == [200] * 4
        assert len(bench.journal.records) == 4

    run(scenario)


def test_of_a_turn_as_many_pass_as_a_limit_has_room_for() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]]) for n in range(8)]
        await bench.warm(*asked)
        bench.fleet.adopt(snapshot(2, ADA, limits=(AccessLimits("tenant", "acme", requests_per_minute=13),)))
        first = await bench.ask(*asked)
        assert [status for status, _, _ in first] == [200] * 8
        assert {headers["x-ratelimit-remaining-requests"] for _, headers, _ in first} == {"5"}
        second = await bench.ask(*asked)
        assert sorted(status for status, _, _ in second) == [200] * 5 + [429] * 3
        assert len(bench.journal.records) == 13

    run(scenario)


def test_a_revoked_key_is_refused_in_the_next_turn() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[1, 1]], ADA), request([[2, 1]], ZOE)]
        await bench.warm(*asked)
        bench.fleet.adopt(snapshot(2, ADA))
        assert [status for status, _, _ in await bench.ask(*asked)] == [200, 401]

    run(scenario)


def test_a_model_that_does_not_answer_row_by_row_is_served_one_by_one() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]]) for n in range(4)]
        await bench.warm(*asked)
        bench.engine.by_row = False
        for _ in range(3):
            answers = await bench.ask(*asked)
            assert [data(body) for _, _, body in answers] == [[n + 1, n, n] for n in range(4)]
        assert len(bench.journal.records) == 12

    run(scenario)


@pytest.mark.parametrize("second", [ADA, ZOE], ids=["one tenant", "two tenants"])
def test_more_than_a_batch_is_answered_in_several(second: NewKey) -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]], ADA if n % 2 else second) for n in range(10)]
        await bench.warm(*asked)
        answers = await bench.ask(*asked)
        assert [data(body) for _, _, body in answers] == [[n + 1, n, n] for n in range(10)]
        assert sum(bench.engine.calls) == 10
        assert max(bench.engine.calls) <= 4
        assert len(bench.journal.records) == 10

    run(scenario, clients=10, rows=4)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}], "id": "mine"},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2]]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}], "outputs": [{"name": "y"}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "data": [1, 2], "shape": [1, 2]}], "parameters": {"data": 1}},
    ],
)
def test_bodies_of_every_sort_are_answered(body: dict[str, object]) -> None:
    async def scenario(bench: Bench) -> None:
        for _ in range(4):
            [(status, _, said)] = await bench.ask(post(json.dumps(body).encode(), ADA))
            assert (status, data(said), json.loads(said).get("id")) == (200, [3, 2, 1], body.get("id"))

    run(scenario)


def test_a_limit_of_one_key_does_not_hold_up_the_others() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]], ADA if n % 2 else ZOE) for n in range(8)]
        await bench.warm(*asked)
        bench.fleet.adopt(snapshot(2, ADA, ZOE, limits=(AccessLimits("tenant", "zoo", requests_per_minute=3),)))
        statuses = [status for status, _, _ in await bench.ask(*asked)]
        assert statuses[1::2] == [200] * 4
        assert sorted(statuses[::2]) == [200, 200, 200, 429]
        assert len(bench.journal.records) == 7
        assert bench.fleet.in_flight == 0
        assert [status for status, _, _ in await bench.ask(*asked[1::2])] == [200] * 4

    run(scenario)


def test_a_defect_while_answers_are_written_leaves_nobody_waiting_and_nobody_counted_twice() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]]) for n in range(4)]
        await bench.warm(*asked)
        limited = (AccessLimits("tenant", "acme", requests_per_minute=1000),)
        bench.fleet.adopt(snapshot(2, ADA, limits=limited))
        bench.rest.standing = lambda _: 1 / 0
        assert [status for status, _, _ in await bench.ask(*asked)] == [500] * 4
        assert bench.fleet.in_flight == 0

    run(scenario)
