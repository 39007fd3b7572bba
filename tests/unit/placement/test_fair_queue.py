"""Fairness, order and bounds of the queue."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import MofangError, Overloaded
from mofang.base.domain.inference import Answer, Call
from mofang.base.placement.queue import FairQueue


@dataclass(eq=False)
class Slip:
    """A ticket that remembers only whether it ended."""

    call: Call
    size_bytes: int = 1
    queued_at: float = 0.0
    ended: bool = False

    def done(self) -> bool:
        return self.ended

    def set_result(self, answer: Answer, /) -> None:
        self.ended = True

    def set_exception(self, error: MofangError, /) -> None:
        self.ended = True


def slip(tenant: str, rows: int = 1, priority: int = 0, size_bytes: int = 1, weight: float = 1.0) -> Slip:
    return Slip(Call("r", tenant, {}, rows, 1e18, priority, weight), size_bytes)


def serve(queue: FairQueue, count: int) -> list[Slip]:
    served = []
    for _ in range(count):
        assert queue.peek() is not None
        served.append(queue.pop())
    return served


arrivals = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.integers(-1, 1)), min_size=1, max_size=60)


@given(arrivals)
def test_all_leave_once_and_each_tenant_by_priority_then_arrival(pushed: list[tuple[str, int, int]]) -> None:
    queue = FairQueue(100, 100)
    slips = [slip(*each) for each in pushed]
    for each in slips:
        assert queue.push(each) == []
    served = serve(queue, len(slips))
    assert queue.peek() is None
    assert (len(queue), queue.rows, queue.size_bytes) == (0, 0, 0)
    for tenant in "abcd":
        own = [each for each in slips if each.call.tenant == tenant]
        expected = sorted(own, key=lambda each: -each.call.priority)  # stable: by arrival inside a priority
        assert [each for each in served if each.call.tenant == tenant] == expected


@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.5, 1.0, 2.0, 4.0]), min_size=2),
    st.lists(st.integers(1, 8), min_size=40, max_size=40),
    st.integers(10, 40),
)
def test_tenants_with_work_get_rows_by_weight(weights: dict[str, float], sizes: list[int], turns: int) -> None:
    queue = FairQueue(1000, 1000)
    for tenant, weight in weights.items():
        for rows in sizes:
            queue.push(slip(tenant, rows, weight=weight))
    got = dict.fromkeys(weights, 0)
    for each in serve(queue, turns):
        got[each.call.tenant] += each.call.rows
    shares = [got[tenant] / weights[tenant] for tenant in weights]
    # Start-time fair queueing: two backlogged tenants differ by at most one largest call of each.
    assert max(shares) - min(shares) <= 2 * max(sizes) / min(weights.values())


@given(st.integers(1, 60), st.integers(1, 8))
def test_a_late_comer_does_not_wait_for_the_backlog_of_another(backlog: int, rows: int) -> None:
    queue = FairQueue(1000, 1000)
    for _ in range(backlog):
        queue.push(slip("noisy", rows))
    serve(queue, backlog // 2)
    queue.push(slip("quiet"))
    served = [each.call.tenant for each in serve(queue, min(2, len(queue)))]
    assert "quiet" in served


@given(arrivals, st.integers(0, 20))
def test_what_is_dropped_and_restored_stands_where_it_stood(pushed: list[tuple[str, int, int]], count: int) -> None:
    queue, twin = FairQueue(100, 100), FairQueue(100, 100)
    for each in map(slip, *zip(*pushed, strict=True)):
        queue.push(each)
        twin.push(each)
    dropped = []
    for _ in range(min(count, len(pushed))):
        assert queue.peek() is not None
        dropped.append(queue.drop())
    queue.restore(dropped)
    assert [each.call.tenant for each in serve(queue, len(pushed))] == [
        each.call.tenant for each in serve(twin, len(pushed))
    ]


def test_a_flood_cannot_keep_others_out() -> None:
    queue = FairQueue(10, 1000)
    flood = [slip("noisy") for _ in range(10)]
    for each in flood:
        queue.push(each)
    with pytest.raises(Overloaded):
        queue.push(slip("noisy"))
    victims = [victim for _ in range(4) for victim in queue.push(slip("quiet"))]
    assert victims == flood[:5:-1]  # the newest of the one that holds most
    assert queue.push(slip("quiet"))  # five each
    with pytest.raises(Overloaded):
        queue.push(slip("quiet"))
    assert len(queue) == 10


def test_a_flood_of_bytes_cannot_either() -> None:
    queue = FairQueue(1000, 100)
    for _ in range(10):
        queue.push(slip("noisy", size_bytes=10))
    assert len(queue.push(slip("quiet", size_bytes=25))) == 3
    assert queue.size_bytes <= 100
    with pytest.raises(Overloaded):
        queue.push(slip("quiet", size_bytes=60))
    assert (len(queue), queue.size_bytes) == (8, 95)  # nobody was pushed out in vain


def test_an_urgent_call_pushes_out_a_lesser_one_of_its_own_tenant() -> None:
    queue = FairQueue(2, 100)
    lesser = [slip("a"), slip("a")]
    for each in lesser:
        queue.push(each)
    assert queue.push(slip("a", priority=1)) == [lesser[1]]


def test_purging_forgets_those_that_ended() -> None:
    queue = FairQueue(10, 100)
    slips = [slip("a"), slip("b"), slip("a")]
    for each in slips:
        queue.push(each)
    slips[0].ended = slips[1].ended = True
    queue.purge()
    assert (len(queue), queue.rows) == (1, 1)
    assert serve(queue, 1) == [slips[2]]
    assert queue.peek() is None


def test_rows_ahead_counts_only_the_fair_part_of_others() -> None:
    queue = FairQueue(1000, 1000)
    for _ in range(500):
        queue.push(slip("noisy"))
    assert queue.rows_ahead("noisy", 1) == 500
    assert queue.rows_ahead("quiet", 3) == 3


def test_who_asks_for_dear_rows_gets_fewer_of_them() -> None:
    cost_us = {"dear": 9_000, "cheap": 1_000}
    queue = FairQueue(10_000, 10_000)
    got = dict.fromkeys(cost_us, 0)
    for _ in range(600):
        for tenant in cost_us:
            queue.push(slip(tenant))
    for _ in range(600):
        assert queue.peek() is not None
        call = queue.pop().call
        got[call.tenant] += cost_us[call.tenant]
        queue.measured([(call, cost_us[call.tenant])])
    assert 0.8 < got["dear"] / got["cheap"] < 1.25  # of the engine's time, not of its rows


def test_a_flood_of_dear_calls_does_not_keep_a_quiet_tenant_waiting() -> None:
    """One server without preemption: nobody can wait for less than the call that is being computed."""
    rng = random.Random(7)
    arrivals = sorted(
        [(rng.uniform(0, 1000), "flood") for _ in range(10_000)] + [(rng.uniform(0, 1000), "quiet") for _ in range(100)]
    )
    alone = [(at, tenant) for at, tenant in arrivals if tenant == "quiet"]
    assert _worst(arrivals, "quiet") <= 1.5 * max(_worst(alone, "quiet"), 1.9)  # a call takes 1


def _worst(arrivals: list[tuple[float, str]], tenant: str) -> float:
    """Serve one call after the other, each for one unit of time; return the 99th percentile of a tenant's times."""
    queue, now, came, taken, waiting = FairQueue(64, 10_000), 0.0, {}, [], list(reversed(arrivals))
    while waiting or queue.count:
        while waiting and (not queue.count or waiting[-1][0] <= now):
            at, name = waiting.pop()
            now = max(now, at) if not queue.count else now
            each = slip(name)
            came[id(each)] = (at, each)
            with suppress(Overloaded):
                queue.push(each)
        if queue.peek() is not None:
            served = queue.pop()
            now += 1.0
            queue.measured([(served.call, 1_000_000)])
            if served.call.tenant == tenant:
                taken.append(now - came[id(served)][0])
    return sorted(taken)[int(len(taken) * 0.99) - 1]


def test_only_a_call_of_a_flood_makes_way_and_who_it_was_for_is_charged() -> None:
    queue = FairQueue(100, 1000)
    for _ in range(9):
        queue.push(slip("flood"))
    running = serve(queue, 6)[-1]
    first, second, third = slip("quiet"), slip("quiet"), slip("quiet")
    queue.push(first)
    assert queue.goes_before(first, running.call)
    assert not queue.goes_before(slip("flood"), running.call)
    queue.charge("quiet", 0.5)
    queue.put_back([running])
    assert serve(queue, 2) == [first, running]
    queue.push(second)
    assert queue.goes_before(second, running.call)
    queue.charge("quiet", 2)
    assert serve(queue, 1) == [second]
    queue.push(third)
    assert not queue.goes_before(third, running.call)  # what was computed in vain has used up what she may have at once


def test_a_call_makes_no_way_where_nothing_else_of_its_tenant_waits() -> None:
    queue = FairQueue(100, 1000)
    queue.push(slip("a"))
    queue.push(slip("a"))
    running = serve(queue, 2)[-1]
    other = slip("b")
    queue.push(other)
    assert not queue.goes_before(other, running.call)
