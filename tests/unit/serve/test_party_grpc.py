"""Calls over gRPC that one turn brought travel together, and nobody can tell from the answers and the records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_party import HUGE, Engine

from http2_peer import Answer, Peer
from mofang.base.identity.keys import NewKey
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.server import serve
from mofang.surface.wire import inference_pb2 as pb
from party_bench import ADA, ZOE, Bench, MemoryJournal, snapshot

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def question(rows: list[list[float]], **changes: object) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 2]}
    raw = [np.array(rows, np.float32).tobytes()]
    fields = {"model_name": "sum", "inputs": [tensor], "raw_input_contents": raw, **changes}
    return bytes(pb.ModelInferRequest(**fields).SerializeToString())


class Caller:
    """One connection that asks many calls in one packet."""

    def __init__(self, bench: Bench, peer: Peer) -> None:
        self.engine, self.journal, self.bench = bench.engine, bench.journal, bench
        self.peer = peer
        self._next = 1

    async def ask(self, *asked: tuple[bytes, NewKey], **fields: str) -> list[Answer]:
        numbers = range(self._next, self._next + 2 * len(asked), 2)
        self._next = numbers[-1] + 2
        for number, (message, key) in zip(numbers, asked, strict=True):
            self.peer.send(self.peer.call(number, message, key=f"Bearer {key.text}", **fields))
        return [await self.peer.answer(number) for number in numbers]

    async def warm(self, *asked: tuple[bytes, NewKey]) -> None:
        for _ in range(3):
            await self.ask(*asked)
        self.engine.calls.clear()
        self.journal.records.clear()
        self.journal.payloads = 0


def run(scenario: Callable[[Caller], Awaitable[None]], rows: int = 64) -> None:
    async def main() -> None:
        bench = Bench(rows, Engine())
        await bench.open(0)
        server = await serve(bench.lane, "127.0.0.1:0")
        peer = Peer(*await asyncio.open_connection("127.0.0.1", server.port))
        peer.greet()
        try:
            async with asyncio.timeout(30):
                await scenario(Caller(bench, peer))
        finally:
            peer.writer.close()
            await server.stop(0)
            await bench.server.close()
            await bench.fleet.close()

    asyncio.run(main())


def numbers(answer: Answer) -> list[float]:
    assert answer.end["grpc-status"] == "0", answer.end
    message = pb.ModelInferResponse.FromString(answer.data[5:])
    assert (message.model_name, message.model_version) == ("sum", "1")
    [output], [raw] = message.outputs, message.raw_output_contents
    found = np.frombuffer(raw, np.float32)
    assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [len(found) // 3, 3])
    return list(found.tolist())


def test_what_one_turn_brings_is_computed_recorded_and_counted_once() -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[n, 2]]), ADA if n % 2 else ZOE) for n in range(8)]
        await caller.warm(*asked)
        answers = await caller.ask(*asked)
        assert caller.engine.calls == [8]
        assert caller.journal.payloads == 2  # one sheet for each key
        assert [numbers(answer) for answer in answers] == [[n + 2, n * 2, n] for n in range(8)]
        records = {record.request_id: record for record in caller.journal.records}
        assert [records[answer.end["x-request-id"]].key_id for answer in answers] == [ZOE.id, ADA.id] * 4
        assert {answer.heads[0]["mofang-digest"] for answer in answers} == {"sha256:1"}
        assert {record.quantities["input_bytes"] for record in records.values()} == {len(asked[0][0])}
        assert caller.bench.fleet.in_flight == 0

    run(scenario)


def test_who_has_a_trace_or_a_priority_travels_with_the_others() -> None:
    async def scenario(caller: Caller) -> None:
        urgent = {"priority": pb.InferParameter(int64_param=1)}
        asked = [(question([[n, 2]], parameters=urgent if n % 2 else {}), ADA) for n in range(8)]
        await caller.warm(*asked)
        answers = await caller.ask(*asked, traceparent=TRACE)
        assert caller.engine.calls == [8]
        assert caller.journal.payloads == 1
        assert [numbers(answer) for answer in answers] == [[n + 2, n * 2, n] for n in range(8)]
        told = {answer.end["traceresponse"] for answer in answers}
        assert len(told) == 8  # a span for each
        assert {each[:36] for each in told} == {TRACE[:36]}

    run(scenario)


values = st.floats(-(2.0**50), 2.0**50, width=32)
bodies = st.lists(st.lists(st.tuples(values, values).map(list), min_size=1, max_size=5), min_size=1, max_size=12)


@settings(max_examples=15, deadline=None)
@given(bodies)
def test_answers_are_the_same_to_the_byte_as_alone(asked: list[list[list[float]]]) -> None:
    async def scenario(caller: Caller) -> None:
        made = [(question(rows), ADA) for rows in asked]
        alone = [(await caller.ask((question(rows, id="mine"), ADA)))[0] for rows in asked]  # these always are
        await caller.warm(*made)
        for answer, other in zip(await caller.ask(*made), alone, strict=True):
            named = pb.ModelInferResponse.FromString(answer.data[5:])
            named.id = "mine"
            assert named.SerializeToString(deterministic=True) == other.data[5:]

    run(scenario, rows=16)


def test_a_bad_one_fails_alone_and_is_not_billed() -> None:
    async def scenario(caller: Caller) -> None:
        good = [(question([[n, 1]]), ADA) for n in range(5)]
        await caller.warm(*good)
        raw = np.zeros(2, np.float32).tobytes()
        bad = [
            question([[HUGE, 1]]),
            question([[1, 2]], raw_input_contents=[raw + b"\0"]),
            question([[1, 2]], raw_input_contents=[raw, raw]),
            question([[1, 2]], inputs=[{"name": "z", "datatype": "FP32", "shape": [1, 2]}]),
            question([[1, 2]], outputs=[{"name": "no"}]),
            question([[1, 2]], model_version="9"),
        ]
        for _ in range(2):  # the second time they are known
            answers = await caller.ask(*good, *((message, ADA) for message in bad))
            assert [answer.end["grpc-status"] for answer in answers] == ["0"] * 5 + ["13", "3", "3", "3", "3", "5"]
        assert len(caller.journal.records) == 10

    run(scenario)


def test_a_message_in_another_order_is_not_mistaken() -> None:
    async def scenario(caller: Caller) -> None:
        plain = question([[3, 4]])
        start = plain.rindex(b"\x3a\x08")  # the numbers, which stand last
        turned = plain[start:] + plain[:start]
        unknown = plain + b"\x82\x7d\x08" + np.array([[5, 6]], np.float32).tobytes()  # a later field, as long as they
        for _ in range(4):
            for message in (turned, unknown, plain):
                assert numbers((await caller.ask((message, ADA)))[0]) == [7, 12, 3]

    run(scenario)


def test_a_full_disk_gives_nothing_away() -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[n, 1]]), ADA) for n in range(4)]
        await caller.warm(*asked)
        journal: MemoryJournal = caller.journal
        journal.full = True
        assert [answer.end["grpc-status"] for answer in await caller.ask(*asked)] == ["14"] * 4
        journal.full = False
        assert [answer.end["grpc-status"] for answer in await caller.ask(*asked)] == ["0"] * 4
        assert len(journal.records) == 4

    run(scenario)


def test_a_revoked_key_is_refused_at_once() -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[1, 1]]), ADA), (question([[2, 1]]), ZOE)]
        await caller.warm(*asked)
        caller.bench.fleet.adopt(snapshot(2, ADA))
        assert [answer.end["grpc-status"] for answer in await caller.ask(*asked)] == ["0", "16"]

    run(scenario)


@pytest.mark.parametrize("second", [ADA, ZOE], ids=["one tenant", "two tenants"])
def test_more_than_a_batch_is_answered_in_several(second: NewKey) -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[n, 1]]), ADA if n % 2 else second) for n in range(10)]
        await caller.warm(*asked)
        answers = await caller.ask(*asked)
        assert [numbers(answer) for answer in answers] == [[n + 1, n, n] for n in range(10)]
        assert sum(caller.engine.calls) == 10
        assert max(caller.engine.calls) <= 4
        assert len(caller.journal.records) == 10

    run(scenario, rows=4)


def test_a_model_that_does_not_answer_row_by_row_is_served_one_by_one() -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[n, 1]]), ADA) for n in range(4)]
        await caller.warm(*asked)
        caller.engine.by_row = False
        for _ in range(3):
            assert [numbers(answer) for answer in await caller.ask(*asked)] == [[n + 1, n, n] for n in range(4)]
        assert len(caller.journal.records) == 12

    run(scenario)


def test_who_takes_back_a_call_costs_the_others_nothing() -> None:
    async def scenario(caller: Caller) -> None:
        asked = [(question([[n, 1]]), ADA) for n in range(4)]
        await caller.warm(*asked)
        peer = caller.peer
        taken_back = peer.call(1001, asked[0][0], key=f"Bearer {ADA.text}") + http2.reset(1001, http2.Code.NO_ERROR)
        caller._next = 1003
        peer.send(taken_back)
        assert [numbers(answer) for answer in await caller.ask(*asked)] == [[n + 1, n, n] for n in range(4)]
        assert 1001 not in peer.answers
        assert len(caller.journal.records) == 4

    run(scenario)
