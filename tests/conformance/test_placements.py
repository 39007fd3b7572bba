"""What every placement does, whichever it is."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import uvloop
from placement_stage import Stage, call, until
from scripted_engine import BLOCK, FAIL

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import (
    DeadlineExceeded,
    Draining,
    EngineFailed,
    EngineLoadFailed,
    MofangError,
    Overloaded,
    RequestTooLarge,
    WarmUpFailed,
)

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def run(main, loop: str = "uvloop") -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


@pytest.fixture(params=["thread", "process"])
def stage(request: pytest.FixtureRequest, make_stage) -> Stage:
    return make_stage(request.param)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_every_call_gets_its_own_rows(stage: Stage, loop: str) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            calls = [call(100 + 10 * number, rows=1 + number % 5) for number in range(300)]
            answers = await asyncio.gather(*map(handle.submit, calls))
            for each, answer in zip(calls, answers, strict=True):
                assert np.array_equal(answer.outputs["y"], 2 * each.inputs["x"])
            assert max(answer.batch_rows for answer in answers) > 5
            assert handle.load == 0

    run(main(), loop)


def test_an_expired_call_is_refused(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            with pytest.raises(DeadlineExceeded):
                handle.submit(call(100, seconds=-1.0))
        assert stage.computed() == []

    run(main())


def test_a_call_ends_at_its_deadline_and_is_never_computed_after_it(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            blocking = handle.submit(call(100, BLOCK))
            await stage.until_computed(100)
            started = time.monotonic()
            late = handle.submit(call(200, seconds=0.1))
            with pytest.raises(DeadlineExceeded):
                await late
            assert time.monotonic() - started < 5  # what it waits for is not released before
            stage.release()
            await blocking
            await handle.submit(call(300))
        assert stage.computed() == [100, 300]

    run(main())


def test_a_call_that_is_being_computed_ends_at_its_deadline_too(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await handle.submit(call(100, BLOCK, seconds=0.2))
            assert time.monotonic() - started < 5  # what it waits for is not released before
            stage.release()
            assert (await handle.submit(call(200))).outputs["y"][0, 0] == 400

    run(main())


def test_a_cancelled_call_is_never_computed(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            blocking = handle.submit(call(100, BLOCK))
            await stage.until_computed(100)
            queued = [handle.submit(call(200 + number)) for number in range(5)]
            await asyncio.sleep(0)  # a turn of the loop: a process has written them by then
            for future in queued[:4]:
                future.cancel()
            await asyncio.sleep(0)
            stage.release()
            await asyncio.gather(blocking, queued[4])
        assert stage.computed() == [100, 204]

    run(main())


def test_a_bad_row_fails_alone(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            futures = [handle.submit(call(100 + n, FAIL if n == 3 else 0.0)) for n in range(8)]
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
            assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, EngineFailed)] == [3]
            assert all(outcome.outputs["y"].shape == (1, 2) for n, outcome in enumerate(outcomes) if n != 3)

    run(main())


def test_a_full_queue_refuses_with_a_time(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened(ReplicaLimits(max_queue=3)) as handle:
            blocking = handle.submit(call(100, BLOCK))
            await stage.until_computed(100)
            outcomes: list[object] = []
            for number in range(5):
                try:
                    future = handle.submit(call(200 + number))
                except Overloaded as error:
                    outcomes.append(error)
                else:
                    future.add_done_callback(lambda done: outcomes.append(done.exception() or done.result()))
            await until(lambda: len(outcomes) == 2)
            assert all(isinstance(each, Overloaded) for each in outcomes)
            assert all(isinstance(each.retry_after_seconds, int) and each.retry_after_seconds >= 1 for each in outcomes)
            stage.release()
            await blocking

    run(main())
    assert stage.computed() == [100, 200, 201, 202]


def test_more_bytes_than_the_queue_ever_holds_are_refused(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened(ReplicaLimits(max_queue_bytes=64)) as handle:
            with pytest.raises(RequestTooLarge):
                handle.submit(call(100, rows=9))
            await handle.submit(call(100, rows=8))

    run(main())


def test_closing_finishes_what_was_taken(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            futures = [handle.submit(call(100, BLOCK)), *(handle.submit(call(200 + n)) for n in range(9))]
            await stage.until_computed(100)
            closing = asyncio.ensure_future(handle.close())
            await asyncio.sleep(0)
            with pytest.raises(Draining):
                handle.submit(call(300))
            assert not closing.done()
            stage.release()
            await closing
            assert all(future.done() for future in futures)
            assert (await futures[-1]).outputs["y"][0, 0] == 416

    run(main())


def test_compute_time_is_shared_by_rows(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            blocking = handle.submit(call(100, BLOCK))
            await stage.until_computed(100)
            futures = [handle.submit(call(200, BLOCK, rows=1)), handle.submit(call(300, rows=3))]
            stage.release()
            await stage.until_computed(200)
            started = time.monotonic()
            await until(lambda: time.monotonic() - started > 0.02)
            stage.release()
            one, three = await asyncio.gather(*futures)
            await blocking
            assert (one.batch_rows, three.batch_rows) == (4, 4)
            assert one.compute_us >= 5_000
            assert abs(three.compute_us - 3 * one.compute_us) <= 3
            assert one.queue_us > 0

    run(main())


@pytest.mark.parametrize(("flaw", "error"), [("broken", EngineLoadFailed), ("nan", WarmUpFailed)])
def test_a_model_that_is_not_sane_does_not_open(stage: Stage, flaw: str, error: type[MofangError]) -> None:
    async def main() -> None:
        (stage.folder / flaw).touch()
        with pytest.raises(error):
            async with stage.opened():
                pass

    run(main())
