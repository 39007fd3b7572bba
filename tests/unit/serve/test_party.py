"""Requests that one turn brought travel together, and nobody can tell from the answers and the records."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import party_bench
from mofang.base.domain.access import AccessLimits
from mofang.base.domain.budget import Budget
from mofang.base.domain.errors import EngineFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.identity.keys import NewKey
from mofang.sell.budget.words import Lease
from party_bench import ADA, SIGNATURE, ZOE, Bench, post, snapshot

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


def trace(number: int) -> str:
    return f"00-{number:032x}-b7ad6b7169203331-01"


def request(rows: list[list[float]], key: NewKey = ADA, more: str = "", **changes: object) -> bytes:
    data = [number for row in rows for number in row]
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": data}], **changes})
    return post(body.encode(), key, more)


def binary(rows: list[list[float]], key: NewKey = ADA) -> bytes:
    raw = np.array(rows, np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return post(head + raw, key, f"inference-header-content-length: {len(head)}\r\n")


def data(body: bytes) -> list[float]:
    [output] = json.loads(body)["outputs"]
    assert output["shape"] == [len(output["data"]) // 3, 3]
    return output["data"]


def run(scenario: Callable[[Bench], Awaitable[None]], clients: int = 8, rows: int = 64, cache_bytes: int = 0) -> None:
    party_bench.run(scenario, Engine(), clients, rows, cache_bytes)


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


def test_who_has_a_trace_or_a_priority_travels_with_the_others() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.warm(*[request([[n, 2]], parameters={"priority": 1 + n % 9}) for n in range(8)])
        asked = [
            request([[n, 2]], ADA, f"traceparent: {trace(n)}\r\n" if n else "", parameters={"priority": 1 + n % 9})
            for n in range(8)
        ]
        answers = await bench.ask(*asked)
        assert bench.engine.calls == [8]
        assert bench.journal.payloads == 1
        assert [data(body) for _, _, body in answers] == [[n + 2, n * 2, n] for n in range(8)]
        told = [headers.get("traceresponse", "") for _, headers, _ in answers]
        assert [each[3:35] for each in told] == ["", *(trace(n)[3:35] for n in range(1, 8))]
        seen = {visit.request_id: str(visit.trace or "") for visit in bench.visits}
        assert [seen[headers["x-request-id"]] for _, headers, _ in answers] == told

    run(scenario)


def test_of_a_turn_what_was_answered_before_is_not_computed_and_costs_no_engine_time() -> None:
    async def scenario(bench: Bench) -> None:
        known = [request([[n, 2]]) for n in range(4)]
        await bench.warm(*known, *[request([[n, 3]]) for n in range(4)])
        answers = await bench.ask(*known, *[request([[n, 4]]) for n in range(4)])
        assert bench.engine.calls == [4]
        assert bench.journal.payloads == 1
        assert [data(body) for _, _, body in answers] == [
            [n % 4 + k, n % 4 * k, n % 4] for n, k in zip(range(8), [2] * 4 + [4] * 4, strict=True)
        ]
        records = {record.request_id: record.quantities for record in bench.journal.records}
        paid = [records[headers["x-request-id"]] for _, headers, _ in answers]
        assert [each["compute_us"] for each in paid[:4]] == [0] * 4
        assert [each["rows"] for each in paid] == [1] * 8
        [entry] = bench.lane.statistics(bench.lane.authenticate(f"Bearer {ADA.text}"), "sum")
        assert entry["inference_stats"]["cache_hit"]["count"] >= 4

    run(scenario, cache_bytes=1 << 20)


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
        bench.engine.by_row = False  # type: ignore[attr-defined]
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


def budget(amount: int, unit: str = "rows") -> tuple[Budget, ...]:
    return (Budget("b1", "tenant", "acme", unit, "total", amount),)


@pytest.mark.parametrize("spoilt", [False, True], ids=["as one", "gone apart"])
def test_what_a_budget_pays_for_travels_together_and_is_charged_once(spoilt: bool) -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]] * (1 + n % 3)) for n in range(7)]
        rows = sum(1 + n % 3 for n in range(7))
        await bench.warm(*asked)
        bench.fleet.adopt(snapshot(2, ADA, budgets=budget(1000)))
        bench.purse.hear([Lease("b1", 0, 1000, 0, 0)])
        if spoilt:
            asked.append(request([[HUGE, 1]]))
        for attempt in range(1, 9):  # on a busy machine a turn may bring only some of them
            bench.engine.calls.clear()
            bench.journal.records.clear()
            answers = await bench.ask(*asked)
            assert [status for status, _, _ in answers] == [200] * 7 + [500] * spoilt
            charges = [charge for record in bench.journal.records for charge in record.charges]
            assert sum(charge.amount for charge in charges) == rows
            [account] = bench.purse.accounts().items
            assert (account.charged, account.reserved) == (rows * attempt, 0)
            if bench.engine.calls[0] == rows + spoilt:
                break
        assert len(charges) == (7 if spoilt else 1)

    run(scenario)


def test_a_budget_is_never_overspent_by_those_who_travel_together() -> None:
    async def scenario(bench: Bench) -> None:
        asked = [request([[n, 1]]) for n in range(8)]
        await bench.warm(*asked)
        bench.fleet.adopt(snapshot(2, ADA, budgets=budget(13)))
        bench.purse.wait_seconds = 0.05  # nobody lends more
        bench.purse.hear([Lease("b1", 0, 13, 0, 0)])
        statuses = [status for _ in range(2) for status, _, _ in await bench.ask(*asked)]
        assert statuses.count(200) == 13
        assert sum(charge.amount for record in bench.journal.records for charge in record.charges) == 13

    run(scenario)


MIXED = Signature(
    (
        TensorSpec("count", "INT64", (-1,)),
        TensorSpec("exact", "FP64", (-1, 2)),
        TensorSpec("small", "UINT8", (-1, 2, 2)),
        TensorSpec("flag", "BOOL", (-1, 1)),
    ),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("score", "FP64", (-1, 2)), TensorSpec("right", "BOOL", (-1, 1))),
)


@dataclass
class MixedEngine:
    """Something of every input in every output."""

    signature: Signature = MIXED
    calls: list[int] = field(default_factory=list)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        count, exact, small, flag = (inputs[spec.name] for spec in MIXED.inputs)
        self.calls.append(len(count))
        label = count - small.sum((1, 2), dtype=np.int64)
        return {"label": label, "score": exact * np.where(flag, 2.0, -1.0), "right": ~flag}

    def close(self) -> None:
        """Nothing to let go of."""


@st.composite
def mixed(draw: st.DrawFn) -> bytes:
    rows = draw(st.integers(1, 3))
    arrays = {
        "count": np.array(draw(st.lists(st.integers(-(2**62), 2**62), min_size=rows, max_size=rows)), np.int64),
        "exact": np.array(draw(st.lists(st.floats(-1e9, 1e9), min_size=2 * rows, max_size=2 * rows))).reshape(rows, 2),
        "small": np.array(draw(st.lists(st.integers(0, 255), min_size=4 * rows, max_size=4 * rows)), np.uint8).reshape(
            rows, 2, 2
        ),
        "flag": np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows))).reshape(rows, 1),
    }
    order = draw(st.permutations(MIXED.inputs))
    if draw(st.booleans()):
        inputs = [tensor(spec, arrays, data=arrays[spec.name].ravel().tolist()) for spec in order]
        return post(json.dumps({"inputs": inputs}).encode(), ADA)
    sizes = {spec.name: {"binary_data_size": arrays[spec.name].nbytes} for spec in order}
    inputs = [tensor(spec, arrays, parameters=sizes[spec.name]) for spec in order]
    head = json.dumps({"inputs": inputs}).encode()
    raw = b"".join(arrays[spec.name].tobytes() for spec in order)
    return post(head + raw, ADA, f"inference-header-content-length: {len(head)}\r\n")


def tensor(spec: TensorSpec, arrays: Mapping[str, Array], **more: object) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(arrays[spec.name].shape), **more}


@settings(max_examples=15, deadline=None)
@given(st.lists(mixed(), min_size=6, max_size=6))
def test_inputs_of_any_sort_travel_together_and_are_answered_as_alone(asked: list[bytes]) -> None:
    async def scenario(bench: Bench) -> None:
        alone = [(await bench.ask(each))[0] for each in asked]
        await bench.warm(*asked)
        together = await bench.ask(*asked)
        assert [(status, body) for status, _, body in together] == [(status, body) for status, _, body in alone]
        assert {status for status, _, _ in together} == {200}
        assert len(bench.engine.calls) < len(asked)

    party_bench.run(scenario, MixedEngine())


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": [2**70], "small": [0] * 4, "flag": [True]},
        {"count": [1], "small": [256, 0, 0, 0], "flag": [True]},
        {"count": [1], "small": [0] * 4, "flag": [1]},
        {"count": [1.5], "small": [0] * 4, "flag": [True]},
        {"count": [1, 2], "small": [0] * 4, "flag": [True]},
    ],
)
def test_of_inputs_of_any_sort_a_bad_one_fails_alone(wrong: dict[str, list[object]]) -> None:
    def body(values: Mapping[str, list[object]]) -> bytes:
        shapes = {"count": [1], "exact": [1, 2], "small": [1, 2, 2], "flag": [1, 1]}
        inputs = [
            {"name": spec.name, "datatype": spec.datatype, "shape": shapes[spec.name], "data": values[spec.name]}
            for spec in MIXED.inputs
        ]
        return post(json.dumps({"inputs": inputs}).encode(), ADA)

    async def scenario(bench: Bench) -> None:
        good = body({"count": [1], "exact": [1.0, 2.0], "small": [0] * 4, "flag": [True]})
        bad = body({"exact": [1.0, 2.0], **wrong})
        await bench.warm(good)
        answers = await bench.ask(good, bad, good)
        assert [status for status, _, _ in answers] == [200, 400, 200]
        assert len(bench.journal.records) == 2

    party_bench.run(scenario, MixedEngine())
