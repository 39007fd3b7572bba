"""Calls of one turn that travel together: as one where nobody waits, and like any others where something happens."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvloop
from placement_stage import Stage, call, until
from scripted_engine import BLOCK, FAIL

from company import Company
from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import DeadlineExceeded, EngineFailed, ReplicaLost
from mofang.base.domain.inference import Answer
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.cached import CachedReplica


def run(main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def warmed(handle: ReplicaHandle, rows: int) -> None:
    """Have the replica find out that it is fast, on both sides of the wire."""
    async with asyncio.timeout(20):
        while True:
            await asyncio.gather(*[handle.submit(call(10)) for _ in range(rows)])
            if handle.takes(rows):
                party = Company(*[call(10) for _ in range(rows)])
                if not handle.board(party):
                    continue
                await party.outcomes()
                if party.answer is not None:
                    return


LONG = [1000, 1001, 1002, 1003]


async def busied(remote: Stage, handle: ReplicaHandle, other: ReplicaHandle) -> asyncio.Future[Answer]:
    """Have the worker, which is thought to be fast, compute something long for another gateway: 101, after LONG.

    It does that in its thread, since rows that came alone were long so often.
    """
    await warmed(handle, 2)
    for number in LONG:
        blocked = other.submit(call(number, BLOCK))
        await remote.until_computed(number)
        await asyncio.sleep(0.01)
        remote.release()
        await blocked
    blocked = other.submit(call(101, BLOCK))
    await remote.until_computed(101)
    return blocked


@pytest.fixture(params=["thread", "process"])
def stage(make_stage, request) -> Stage:
    return make_stage(request.param)


@pytest.fixture
def remote(make_stage) -> Stage:
    return make_stage("process")


def test_a_party_is_computed_as_one(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            await warmed(handle, 4)
            party = Company(call(100), call(101, tenant="u"), call(102), call(103, tenant="u"))
            assert handle.takes(4)
            assert handle.board(party)
            assert await party.outcomes() == [200, 202, 204, 206]
            assert party.answer is not None
            assert party.answer.batch_rows == 4
            assert handle.load == 0
        assert stage.computed() == [100, 101, 102, 103]

    run(main())


def test_a_bad_call_fails_alone(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            await warmed(handle, 3)
            party = Company(call(100), call(101, FAIL), call(102))
            if not handle.board(party):
                for ticket in party.apart():
                    handle.admit(ticket)
            assert await party.outcomes() == [200, EngineFailed, 204]

    run(main())


def test_more_rows_than_a_batch_may_have_are_not_taken(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened(ReplicaLimits(max_batch_rows=2)) as handle:
            await warmed(handle, 2)
            assert handle.takes(2)
            assert not handle.takes(3)

    run(main())


def test_a_worker_with_others_to_serve_takes_the_calls_one_by_one(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle, remote.opened() as other:
            blocked = await busied(remote, handle, other)
            party = Company(call(102), call(103))
            assert handle.board(party)
            await until(lambda: bool(party.tickets))
            assert not handle.takes(2)  # for a while
            assert 102 not in remote.computed()
            remote.release()
            assert await party.outcomes() == [204, 206]
            await blocked
        assert sorted(remote.computed()) == [101, 102, 103, *LONG]

    run(main())


def test_calls_that_go_apart_keep_their_priorities(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle, remote.opened() as other:
            blocked = await busied(remote, handle, other)
            waiting = [other.submit(call(110)), other.submit(call(111))]
            party = Company(call(102), call(103, priority=4))
            assert handle.board(party)
            await until(lambda: bool(party.tickets))
            remote.release()
            assert await party.outcomes() == [204, 206]
            await asyncio.gather(blocked, *waiting)
        assert remote.computed()[:6] == [*LONG, 101, 103]

    run(main())


def test_calls_that_a_killed_worker_had_fail_at_once(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle:
            await warmed(handle, 2)
            party = Company(call(100, BLOCK), call(101))
            assert handle.board(party)
            await remote.until_computed(101)
            remote.kill_worker()
            assert await party.outcomes() == [ReplicaLost, ReplicaLost]
            assert handle.load == 0

    run(main())


def test_a_deadline_ends_all_of_them(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle:
            await warmed(handle, 2)
            party = Company(call(100, BLOCK, seconds=0.3), call(101, seconds=0.3))
            assert handle.board(party)
            started = time.monotonic()
            assert await party.outcomes() == [DeadlineExceeded, DeadlineExceeded]
            assert time.monotonic() - started < 5
            remote.release()
            assert (await handle.submit(call(102))).outputs["y"][0, 0] == 204  # what comes late is not mistaken
            assert handle.load == 0

    run(main())


def test_who_leaves_does_not_hold_up_the_others(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle:
            await warmed(handle, 3)
            party = Company(call(100, BLOCK), call(101), call(102))
            assert handle.board(party)
            await remote.until_computed(102)
            handle.part(party)
            party.tickets[1].cancel()
            handle.drop(party.tickets[1])
            remote.release()
            assert await party.outcomes() == [200, asyncio.CancelledError, 204]
            assert handle.load == 0

    run(main())


def test_a_party_whose_answers_are_kept_goes_apart_and_each_is_computed_once(remote: Stage) -> None:
    async def main() -> None:
        async with remote.opened() as handle:
            await warmed(handle, 2)
            cached = CachedReplica(handle, 1 << 20)
            party = Company(call(100, BLOCK), call(101), call(101))
            assert cached.takes(3)
            assert cached.board(party)
            await remote.until_computed(101)
            other = cached.submit(call(101))  # the same, while it is under way
            cached.part(party)
            remote.release()
            assert await party.outcomes() == [200, 202, 202]
            assert [each.result().is_cached for each in party.tickets] == [False, False, True]
            assert (await other).is_cached
        assert remote.computed() == [100, 101]

    run(main())
