"""Answers given again: to the same tenant only, and whoever leaves takes nobody along."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from company import Company
from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import DeadlineExceeded, EngineFailed
from mofang.base.domain.inference import Call
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.placement.cached import CachedReplica
from mofang.base.placement.replica import Replica

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


class Gate:
    """Doubles; computes when it is opened. Fails on 13."""

    signature = SIGNATURE

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.rows = 0

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert self.open.wait(20)
        if (inputs["x"] == 13).any():
            raise EngineFailed("unlucky")
        self.rows += len(inputs["x"])
        return {"y": inputs["x"] * np.float32(2)}

    def close(self) -> None:
        """Nothing to let go of."""


def call(value: float, tenant: str = "acme", seconds: float = 20.0) -> Call:
    x = np.full((1, 2), value, np.float32)
    return Call("req", tenant, {"x": x}, 1, time.monotonic() + seconds)


def run(scenario: Callable[[Gate, CachedReplica], Awaitable[None]], max_bytes: int = 1 << 20) -> None:
    async def main() -> None:
        gate = Gate()
        replica = CachedReplica(Replica(gate, ReplicaLimits()), max_bytes)
        await scenario(gate, replica)
        gate.open.set()
        await replica.close()

    asyncio.run(main())


def test_what_was_asked_before_is_not_computed_again_and_costs_no_engine_time() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        first, again = await replica.submit(call(1)), await replica.submit(call(1))
        assert first.outputs["y"].tolist() == again.outputs["y"].tolist() == [[2, 2]]
        assert (first.is_cached, again.is_cached, again.compute_us, gate.rows) == (False, True, 0, 1)

    run(scenario)


class Counted:
    """A tally in memory."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()

    def add(self, key: str, quantities: Mapping[str, int]) -> None:
        self.sums.update({(key, meter): quantity for meter, quantity in quantities.items()})

    def close(self) -> None:
        pass


def test_every_answer_is_counted_where_it_comes_from() -> None:
    engine, memory = Counted(), Counted()

    async def main() -> None:
        gate = Gate()
        gate.open.set()
        replica = CachedReplica(Replica(gate, ReplicaLimits(), engine), 1 << 20, memory)
        await asyncio.gather(*(replica.submit(call(1)) for _ in range(5)))
        await replica.submit(call(1))
        await replica.submit(call(2, "zoo"))
        await replica.close()

    asyncio.run(main())
    assert {key: n for key, n in engine.sums.items() if key[1] != "compute_us"} == {
        ("acme", "requests"): 1, ("acme", "rows"): 1, ("zoo", "requests"): 1, ("zoo", "rows"): 1,
    }  # fmt: skip
    assert +memory.sums == {("acme", "requests"): 5, ("acme", "rows"): 5}  # no time of an engine


def test_tenants_and_other_inputs_share_nothing() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        for each in (call(1), call(1, "zoo"), call(2), Call("r", "acme", {"x": np.ones((2, 2), "f4")}, 2, 1e12)):
            assert not (await replica.submit(each)).is_cached
        assert gate.rows == 5

    run(scenario)


def test_what_is_being_computed_is_computed_once() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        gate.open.clear()
        asked = [replica.submit(call(1)) for _ in range(10)]
        await asyncio.sleep(0)
        gate.open.set()
        answers = await asyncio.gather(*asked)
        assert [answer.outputs["y"].tolist() for answer in answers] == [[[2, 2]]] * 10
        assert sum(answer.is_cached for answer in answers) == 9
        assert gate.rows == 1

    run(scenario)


def test_those_who_wait_for_one_who_leaves_are_answered() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        gate.open.clear()
        leaving = replica.submit(call(1))
        staying = [replica.submit(call(1)) for _ in range(3)]
        leaving.cancel()
        replica.drop(leaving)  # type: ignore[arg-type]
        gate.open.set()
        assert [answer.outputs["y"].tolist() for answer in await asyncio.gather(*staying)] == [[[2, 2]]] * 3

    run(scenario)


def test_one_who_has_no_time_takes_nobody_along_and_followers_have_deadlines_too() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        gate.open.clear()
        hurried, patient, late = (replica.submit(call(1, seconds=s)) for s in (0.05, 20.0, 0.1))
        with pytest.raises(DeadlineExceeded):
            await hurried
        with pytest.raises(DeadlineExceeded):
            await late
        gate.open.set()
        assert (await patient).outputs["y"].tolist() == [[2, 2]]

    run(scenario)


def test_a_failure_is_told_to_all_and_not_kept() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        said = await asyncio.gather(*(replica.submit(call(13)) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, EngineFailed) for each in said)
        with pytest.raises(EngineFailed):
            await replica.submit(call(13))
        assert replica.load == 0

    run(scenario)


async def warmed(replica: CachedReplica) -> None:
    """Have the replica find out that it is fast."""
    value = 1000.0
    while not replica.takes(8):
        value += 1
        await replica.submit(call(value))


def test_of_a_party_only_what_is_not_known_is_computed() -> None:
    engine, memory = Counted(), Counted()

    async def main() -> None:
        gate = Gate()
        replica = CachedReplica(Replica(gate, ReplicaLimits(), engine), 1 << 20, memory)
        await warmed(replica)
        await replica.submit(call(1))
        gate.rows = 0
        engine.sums.clear()
        party = Company(call(1), call(2), call(2), call(1, "zoo"), call(3))
        assert replica.board(party)
        assert await party.outcomes() == [2, 4, 4, 2, 6]
        assert (gate.rows, party.recalled) == (3, {0, 2})
        again = Company(call(3), call(2))
        assert replica.board(again)
        assert await again.outcomes() == [6, 4]
        assert (gate.rows, again.recalled) == (3, {0, 1})
        assert again.answer is not None
        assert (again.answer.is_cached, again.answer.compute_us) == (True, 0)
        await replica.close()

    asyncio.run(main())
    assert [engine.sums[who, "requests"] for who in ("acme", "zoo")] == [2, 1]
    assert +memory.sums == {("acme", "requests"): 4, ("acme", "rows"): 4}


def test_a_party_that_fails_goes_apart_and_nothing_of_it_is_kept() -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        await warmed(replica)
        party = Company(call(13), call(2), call(2))
        assert not replica.board(party)
        for ticket in party.apart():
            replica.admit(ticket)
        assert await party.outcomes() == [EngineFailed, 4, 4]
        assert replica.load == 0

    run(scenario)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=30))
def test_memory_is_bounded_and_answers_are_right_whatever_is_asked(values: list[int]) -> None:
    async def scenario(gate: Gate, replica: CachedReplica) -> None:
        for value in values:
            answer = await replica.submit(call(value))
            assert answer.outputs["y"].tolist() == [[2 * value, 2 * value]]
            assert len(replica._known) <= 2

    run(scenario, max_bytes=2 * 520)
