"""Batches, admission and inline computing of a replica, with engines made for each question."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import uvloop

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import DeadlineExceeded, EngineFailed, Overloaded, TensorData
from mofang.base.domain.inference import Answer, Call
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.placement.pace import Pace
from mofang.base.placement.replica import Replica

Function = Callable[[Array], Array]


class FunctionEngine:
    """Computes ``y = function(x)`` and remembers the shapes of ``x`` and the threads it ran in."""

    def __init__(self, shape: tuple[int, ...], function: Function, output: tuple[int, ...] | None = None) -> None:
        self.signature = Signature((TensorSpec("x", "FP32", shape),), (TensorSpec("y", "FP32", output or shape),))
        self._function = function
        self.shapes: list[tuple[int, ...]] = []
        self.threads: list[int] = []
        self.is_closed = False

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.shapes.append(inputs["x"].shape)
        self.threads.append(threading.get_ident())
        return {"y": self._function(inputs["x"])}

    def close(self) -> None:
        self.is_closed = True


class LongEngine(FunctionEngine):
    """Computes until it is interrupted if ``x`` begins with 0, else at once."""

    def __init__(self) -> None:
        super().__init__((1, 2), self._compute)
        self.begun = threading.Event()
        self.interrupted = threading.Event()
        self.long_threads: list[int] = []

    def interrupt(self) -> None:
        self.interrupted.set()

    def _compute(self, x: Array) -> Array:
        if x[0, 0] == 0:
            self.long_threads.append(threading.get_ident())
            self.interrupted.clear()
            self.begun.set()
            assert self.interrupted.wait(10)
            raise EngineFailed("interrupted")
        return x


def call(x: Array, *, tenant: str = "t", seconds: float = 30.0) -> Call:
    return Call("r", tenant, {"x": x}, max(1, len(x)), time.monotonic() + seconds)


def run(main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def rows(count: int, *inner: int) -> Array:
    return np.arange(count * int(np.prod(inner)), dtype=np.float32).reshape(count, *inner)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
def test_what_nobody_waits_for_is_given_up(how: str) -> None:
    engine = LongEngine()

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        long = replica.submit(call(rows(1, 2), seconds=30 if how == "cancelled" else 0.3))
        await asyncio.to_thread(engine.begun.wait, 10)
        next_one = replica.submit(call(rows(1, 2) + 1))
        assert not engine.interrupted.is_set()
        if how == "cancelled":
            long.cancel()
        assert np.array_equal((await next_one).outputs["y"], rows(1, 2) + 1)
        assert long.cancelled() if how == "cancelled" else isinstance(long.exception(), DeadlineExceeded)
        await replica.close()

    run(main())
    assert engine.interrupted.is_set()


def test_what_was_short_and_is_long_now_does_not_hold_the_loop() -> None:
    engine = LongEngine()

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        while threading.get_ident() not in engine.threads:  # until it is computed in the loop
            await replica.submit(call(rows(1, 2) + 1))
        long = replica.submit(call(rows(1, 2), seconds=0.5))
        with pytest.raises(DeadlineExceeded):
            await long  # in the thread: the first attempt, in the loop, was interrupted
        assert np.array_equal((await replica.submit(call(rows(1, 2) + 1))).outputs["y"], rows(1, 2) + 1)
        await replica.close()

    run(main())
    assert engine.long_threads[0] != engine.long_threads[-1]


def test_what_somebody_waits_for_is_not_given_up() -> None:
    engine = LongEngine()

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        asked = replica.submit(call(rows(1, 2)))
        await asyncio.to_thread(engine.begun.wait, 10)
        done, _ = await asyncio.wait([asked], timeout=0.35)
        assert not done
        assert not engine.interrupted.is_set()
        asked.cancel()
        await replica.close()

    run(main())


def test_one_turn_is_one_batch_up_to_the_limit() -> None:
    engine = FunctionEngine((-1, 2), lambda x: x + 1)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=8))
        futures = [replica.submit(call(rows(3, 2))) for _ in range(4)]
        futures.append(replica.submit(call(rows(20, 2))))  # more than a batch: alone
        for future in futures[:4]:
            assert np.array_equal((await future).outputs["y"], rows(3, 2) + 1)
        assert len((await futures[4]).outputs["y"]) == 20
        await replica.close()

    run(main())
    assert [shape[0] for shape in engine.shapes] == [6, 6, 20]
    assert engine.is_closed


def test_only_equal_shapes_are_joined_and_none_is_passed_over_for_ever() -> None:
    engine = FunctionEngine((-1, -1), lambda x: x * 2)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        calls = [call(rows(1, length)) for length in (3, 5, 3, 7, 5, 3)]
        answers = await asyncio.gather(*map(replica.submit, calls))
        for each, answer in zip(calls, answers, strict=True):
            assert np.array_equal(answer.outputs["y"], 2 * each.inputs["x"])
        await replica.close()

    run(main())
    assert engine.shapes == [(3, 3), (2, 5), (1, 7)]


def test_a_model_of_fixed_shape_computes_one_by_one() -> None:
    engine = FunctionEngine((2, 2), lambda x: x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        await asyncio.gather(*(replica.submit(call(rows(2, 2))) for _ in range(3)))
        await replica.close()

    run(main())
    assert engine.shapes == [(2, 2)] * 3


def test_a_model_that_does_not_answer_by_row_is_joined_once_and_never_again() -> None:
    engine = FunctionEngine((-1, 2), lambda x: x.max(axis=0, keepdims=True), output=(-1, 2))

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        for _ in range(2):
            answers = await asyncio.gather(*(replica.submit(call(rows(2, 2) + n)) for n in range(3)))
            assert [answer.outputs["y"][0, 0] for answer in answers] == [2, 3, 4]
        await replica.close()

    run(main())
    assert engine.shapes == [(6, 2)] + [(2, 2)] * 6


def test_failures_stay_with_their_call_and_keep_their_kind() -> None:
    def function(x: Array) -> Array:
        if (x == 100).any():
            raise TensorData("a hundred is no value")
        if (x == 200).any():
            raise RuntimeError("two hundred neither")
        return x

    async def main() -> None:
        replica = Replica(FunctionEngine((-1, 1), function), ReplicaLimits())
        values = (1, 100, 2, 200, 3)
        futures = [replica.submit(call(np.full((1, 1), value, np.float32))) for value in values]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[1::2]] == [TensorData, EngineFailed]
        assert [outcome.outputs["y"][0, 0] for outcome in outcomes[::2]] == [1, 2, 3]
        await replica.close()

    run(main())


def test_an_engine_that_tries_to_end_the_process_fails_its_batch_only() -> None:
    def function(x: Array) -> Array:
        if x[0, 0] < 0:
            raise SystemExit(3)
        return x

    async def main() -> None:
        replica = Replica(FunctionEngine((-1, 1), function), ReplicaLimits())
        with pytest.raises(EngineFailed):
            await replica.submit(call(np.full((1, 1), -1, np.float32)))
        await replica.submit(call(rows(1, 1)))
        await replica.close()

    run(main())


def test_a_quick_engine_runs_in_the_loop_and_a_slow_one_in_one_thread() -> None:
    quick = FunctionEngine((-1, 1), lambda x: x)
    slow = FunctionEngine((-1, 1), lambda x: time.sleep(0.002) or x)

    async def main() -> None:
        for engine in (quick, slow):
            replica = Replica(engine, ReplicaLimits())
            for _ in range(20):
                await replica.submit(call(rows(1, 1)))
            await replica.close()

    run(main())
    here = threading.get_ident()
    assert quick.threads[-1] == here
    assert here not in slow.threads
    assert len(set(slow.threads)) == 1


def test_one_batch_during_which_another_process_was_let_in_does_not_drive_the_next_out_of_the_loop() -> None:
    disturbed = False

    def function(x: Array) -> Array:
        if disturbed:
            time.sleep(0.005)
        return x

    engine = FunctionEngine((-1, 2), function)

    async def main() -> None:
        nonlocal disturbed
        replica = Replica(engine, ReplicaLimits())
        for number in range(4):
            disturbed = number == 2
            await replica.submit(call(rows(1, 2)))
        assert replica.takes(1)
        await replica.close()

    run(main())
    assert set(engine.threads[1:]) == {threading.get_ident()}


def test_a_size_that_was_disturbed_when_it_was_first_seen_is_tried_again() -> None:
    pace = Pace()
    assert pace.undisturbed(0) == pace.undisturbed(9) == 0.0
    pace.observe(1, 0.003)  # a process was let in
    pace.observe(16, 0.0001)
    pace.observe(32, 0.003)  # and once more
    assert pace.undisturbed(0) == pace.undisturbed(1) == pace.undisturbed(16) == 0.0001
    assert pace.undisturbed(32) == 0.0002
    for _ in range(3):
        pace.observe(32, 0.003)
    assert pace.undisturbed(32) == 0.003  # that is what it takes
    pace.observe(32, 0.0001)
    assert pace.undisturbed(32) == 0.0001
    assert pace.undisturbed(64) == 0.0002


def test_what_cannot_be_in_time_any_more_is_told_so_and_not_computed() -> None:
    engine = FunctionEngine((1, 1), lambda x: time.sleep(float(x[0, 0])) or x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())
        for _ in range(3):
            await replica.submit(call(rows(1, 1) + 0.05))
        slower = replica.submit(call(rows(1, 1) + 0.5))  # than expected
        hopeless = replica.submit(call(rows(1, 1) + 0.05, seconds=0.53))
        patient = replica.submit(call(rows(1, 1) + 0.05))
        with pytest.raises(Overloaded, match="slower than expected") as refusal:
            await hopeless
        assert refusal.value.retry_after_seconds == 1
        await asyncio.gather(slower, patient)
        await replica.close()

    run(main())
    assert len(engine.shapes) == 5


def test_a_call_that_would_be_late_is_refused_but_never_by_an_idle_replica() -> None:
    engine = FunctionEngine((-1, 1), lambda x: time.sleep(0.05) or x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=1))
        await replica.submit(call(rows(1, 1)))
        idle = replica.submit(call(rows(1, 1), seconds=0.04))  # an idle replica tries, and measures anew
        queued = [replica.submit(call(rows(1, 1))) for _ in range(30)]
        with pytest.raises(Overloaded) as refusal:
            replica.submit(call(rows(1, 1), seconds=1.0))
        assert refusal.value.retry_after_seconds == 2  # 31 times 0.05 s
        quiet = replica.submit(call(rows(1, 1), tenant="quiet", seconds=1.0))  # its fair turn comes soon
        await quiet
        assert sum(future.done() for future in queued) < 5
        await asyncio.gather(idle, *queued, return_exceptions=True)
        await replica.close()

    run(main())


def test_a_crowded_replica_waits_where_that_was_measured_to_pay() -> None:
    engine = FunctionEngine((-1, 1), lambda x: time.sleep(0.2) or x)  # as long for one row as for four

    async def main() -> None:
        loop = asyncio.get_running_loop()
        replica = Replica(engine, ReplicaLimits(max_wait_us=60_000_000, max_batch_rows=2))
        for _ in range(3):
            await asyncio.gather(*(replica.submit(call(rows(1, 1))) for _ in range(2)))  # crowded from now on
        first = replica.submit(call(rows(1, 1)))
        second = loop.create_future()
        loop.call_later(0.002, lambda: second.set_result(replica.submit(call(rows(1, 1)))))
        assert (await first).batch_rows == 2
        await (await second)
        await replica.close()

    run(main())


def test_of_more_calls_than_a_preferred_size_the_rest_waits() -> None:
    engine = FunctionEngine((-1, 1), lambda x: x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=16, preferred_rows=(2, 4)))
        tenants = ["acme", "zoo"]
        asked = [replica.submit(call(rows(1, 1), tenant=tenants[n % 2])) for n in range(7)]
        sizes = [answer.batch_rows for answer in await asyncio.gather(*asked)]
        assert sorted(sizes) == [1, 2, 2, 4, 4, 4, 4]
        await replica.close()

    run(main())


def test_a_full_batch_of_a_crowded_replica_does_not_wait() -> None:
    async def main() -> None:
        replica = Replica(FunctionEngine((-1, 1), lambda x: x), ReplicaLimits(max_wait_us=60_000_000, max_batch_rows=4))
        await asyncio.gather(*(replica.submit(call(rows(1, 1))) for _ in range(4)))  # crowded from now on
        full = [replica.submit(call(rows(1, 1))) for _ in range(4)]
        assert (await asyncio.wait_for(full[0], 30)).batch_rows == 4
        await replica.close()

    run(main())


def test_batches_grow_only_as_far_as_a_row_costs_no_more() -> None:
    pace = Pace()
    assert pace.thrifty(64) == 64
    pace.observe(1, 0.003)
    assert pace.thrifty(64) == 64  # larger ones were never tried
    pace.observe(32, 0.003 * 32 * 1.2)
    assert pace.thrifty(64) == 1
    pace.observe(4, 0.003 * 4 * 0.9)
    assert pace.thrifty(64) == 7
    pace.observe(64, 0.003 * 64 * 0.5)
    assert pace.thrifty(64) == 64


def test_short_batches_grow_only_as_far_as_a_row_costs_much_less() -> None:
    pace = Pace()
    assert pace.thrifty(64, short=True) == 64
    pace.observe(1, 0.003)
    assert pace.thrifty(64, short=True) == 64  # larger ones were never tried
    pace.observe(32, 0.003 * 32 * 0.9)
    assert (pace.thrifty(64), pace.thrifty(64, short=True)) == (64, 1)
    pace.observe(8, 0.003 * 8 * 0.5)
    assert pace.thrifty(64, short=True) == 15
    pace.observe(64, 0.003 * 64 * 0.1)
    assert pace.thrifty(64, short=True) == 64


def test_batches_are_short_while_tenants_share() -> None:
    engine = FunctionEngine((-1, 1), lambda x: time.sleep(0.03 * len(x)) or x)  # a row costs the same in any batch

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=4))

        def flood(calls: int) -> list[asyncio.Future[Answer]]:
            return [replica.submit(call(rows(1, 1), tenant="a")) for _ in range(calls)]

        for _ in range(2):  # sizes are measured: one row, and as many as a batch may have
            await asyncio.gather(*flood(5))
        waiting = flood(8)
        await waiting[0]
        quiet = await replica.submit(call(rows(1, 1), tenant="b"))
        sizes = [answer.batch_rows for answer in await asyncio.gather(*waiting)]
        assert sizes[:4] == [4] * 4  # before the other came
        assert (quiet.batch_rows, sizes[4:]) == (1, [1] * 4)
        await replica.close()

    run(main())


class PatientEngine(FunctionEngine):
    """Takes a fifth of a second for everything, unless it is interrupted."""

    def __init__(self) -> None:
        super().__init__((1, 1), self._compute)
        self._stop = threading.Event()
        self.given_up: list[float] = []

    def interrupt(self) -> None:
        self._stop.set()

    def _compute(self, x: Array) -> Array:
        self._stop.clear()
        if self._stop.wait(0.2):
            self.given_up.append(float(x[0, 0]))
            raise EngineFailed("interrupted")
        return x


def test_a_call_of_a_flood_makes_way_in_its_first_half() -> None:
    engine = PatientEngine()
    answered: list[str] = []

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits())

        def ask(tenant: str, number: int) -> asyncio.Future[Answer]:
            future = replica.submit(call(np.array([[number]], np.float32), tenant=tenant))
            future.add_done_callback(lambda _: answered.append(f"{tenant}{number}"))
            return future

        flood = [ask("a", number) for number in range(4)]
        await flood[1]
        await asyncio.sleep(0.02)
        answers = [await ask("b", 9), *[await each for each in flood]]
        assert [float(answer.outputs["y"][0, 0]) for answer in answers] == [9, 0, 1, 2, 3]
        assert answered == ["a0", "a1", "b9", "a2", "a3"]
        assert engine.given_up == [2]  # begun anew, and not in vain a second time
        alone = ask("b", 5)
        await asyncio.sleep(0.02)
        assert await ask("c", 6) is not None  # nobody floods now: who came first is answered first
        assert alone.done()
        assert engine.given_up == [2]
        await replica.close()

    run(main())


def test_a_model_that_is_slower_in_batches_is_not_asked_in_batches() -> None:
    engine = FunctionEngine((-1, 1), lambda x: time.sleep(0.004 if len(x) == 1 else 0.05 * len(x)) or x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=8))
        await replica.submit(call(rows(1, 1)))
        await asyncio.gather(*(replica.submit(call(rows(1, 1))) for _ in range(8)))  # measured, and found wanting
        answers = await asyncio.gather(*(replica.submit(call(rows(1, 1))) for _ in range(8)))
        assert [answer.batch_rows for answer in answers] == [1] * 8
        await replica.close()

    run(main())


def test_a_size_that_was_once_measured_badly_is_tried_again() -> None:
    first = iter([0.05])
    engine = FunctionEngine((-1, 1), lambda x: time.sleep(next(first, 0.001) if len(x) == 1 else 0.01 * len(x)) or x)

    async def main() -> None:
        replica = Replica(engine, ReplicaLimits(max_batch_rows=4, max_wait_us=0))
        await replica.submit(call(rows(1, 1)))
        for _ in range(12):
            answers = await asyncio.gather(*(replica.submit(call(rows(1, 1))) for _ in range(4)))
        assert [answer.batch_rows for answer in answers] == [1] * 4
        await replica.close()

    run(main())
    assert (4, 1) in engine.shapes


def test_what_a_row_costs_falls_at_once_and_rises_slowly() -> None:
    pace = Pace()
    pace.observe(32, 0.003 * 32)
    pace.observe(1, 0.020)
    assert pace.thrifty(64) == 64
    pace.observe(1, 0.002)
    assert pace.thrifty(64) == 1
    pace.observe(1, 0.020)
    assert pace.thrifty(64) == 1


def test_pace_tells_what_it_measured() -> None:
    pace = Pace()
    assert pace.expect(1) == 0.0
    pace.observe(1, 0.010)
    assert pace.expect(1) == 0.010
    assert pace.expect(8) == pytest.approx(0.080)  # never seen: as much a row as the nearest smaller
    pace.observe(8, 0.012)
    assert pace.expect(8) == pytest.approx(0.012)
    assert pace.expect(32) == pytest.approx(0.048)
    for _ in range(50):
        pace.observe(1, 0.020)
    assert pace.expect(1) == pytest.approx(0.020, rel=0.01)
