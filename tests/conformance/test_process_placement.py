"""What only a worker can do: die, come back, load late, stop, serve several gateways, and hear nonsense."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
import weakref
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import uvloop
from placement_stage import Stage, call, until
from scripted_engine import BLOCK

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import Overloaded, ReplicaLost, ReplicaUnavailable
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.frames import MAGIC, encode_call
from mofang.base.placement.process import ProcessPlacement, ProcessReplica, probe


def run(main) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@pytest.fixture
def stage(make_stage) -> Stage:
    return make_stage("process")


def test_a_killed_worker_fails_what_it_had_and_its_successor_serves_the_rest(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            had = [handle.submit(call(100, BLOCK)), handle.submit(call(101))]
            await stage.until_computed(100)
            stage.kill_worker()
            started = time.monotonic()
            outcomes = await asyncio.gather(*had, return_exceptions=True)
            assert time.monotonic() - started < 5
            assert all(isinstance(outcome, ReplicaLost) for outcome in outcomes)
            waiting = [handle.submit(call(200 + number)) for number in range(50)]
            stage.start_worker()
            answers = await asyncio.gather(*waiting)
            assert [answer.outputs["y"][0, 0] for answer in answers] == [2 * (200 + n) for n in range(50)]
        assert sorted(stage.computed())[-50:] == [*range(200, 250)]  # each once, none lost

    run(main())


def test_calls_wait_no_longer_than_they_may_for_a_worker(stage: Stage) -> None:
    async def main() -> None:
        stage.start_worker()
        await until(lambda: stage_is_up(stage))
        handle = await ProcessPlacement(reconnect_seconds=0.5).open(stage.spec)
        had = handle.submit(call(100, BLOCK))
        await stage.until_computed(100)
        stage.kill_worker()
        with pytest.raises(ReplicaLost):
            await had
        waiting = [handle.submit(call(100)) for _ in range(1024)]
        with pytest.raises(Overloaded) as refusal:
            handle.submit(call(100))
        assert refusal.value.retry_after_seconds == 1
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(outcome, ReplicaUnavailable) for outcome in outcomes)
        assert is_refused(handle)  # and then at once
        stage.start_worker()
        await until(lambda: not is_refused(handle))
        await handle.close()

    run(main())


def is_refused(handle: ReplicaHandle) -> bool:
    try:
        handle.submit(call(200))
    except ReplicaUnavailable:
        return True
    return False


def test_a_stopped_worker_answers_all_it_took_and_its_successor_the_rest(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            had = [handle.submit(call(100, BLOCK)), handle.submit(call(101))]
            await stage.until_computed(100)
            first = stage.worker
            assert first is not None
            first.send_signal(signal.SIGTERM)
            await until(lambda: not stage_is_up(stage))
            later = [handle.submit(call(200 + number)) for number in range(20)]
            stage.start_worker()
            stage.release()
            answers = await asyncio.gather(*had, *later)
            assert [answer.outputs["y"][0, 0] for answer in answers] == [200, 202, *(400 + 2 * n for n in range(20))]
            await until(lambda: first.poll() is not None)
            assert first.returncode == 0

    run(main())


def stage_is_up(stage: Stage) -> bool:
    with closing(socket.socket(socket.AF_UNIX)) as probe_socket:
        return probe_socket.connect_ex(stage.spec.socket) == 0


def test_gateways_share_a_worker_and_its_batches(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as one, stage.opened() as other:
            blocking = one.submit(call(100, BLOCK))
            await stage.until_computed(100)
            futures = [handle.submit(call(200 + n)) for n, handle in enumerate((one, other, one, other))]
            hello = await probe(stage.spec.socket, 5)  # a round trip: the worker has read the other's frames
            assert hello.state == "ready"
            assert hello.signature is not None
            assert hello.signature.inputs[0].name == "x"
            stage.release()
            answers = await asyncio.gather(*futures)
            assert answers[0].batch_rows == 4
            await blocking

    run(main())


def test_what_a_lost_gateway_asked_is_not_computed(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as one:
            blocking = one.submit(call(100, BLOCK))
            await stage.until_computed(100)
            _, other = await asyncio.open_unix_connection(stage.spec.socket)
            other.writelines(encode_call(1, call(200)))
            await other.drain()
            await probe(stage.spec.socket, 5)  # a round trip: the worker has read it by then
            other.close()
            await other.wait_closed()
            await probe(stage.spec.socket, 5)
            stage.release()
            await blocking
            await one.submit(call(300))
        assert stage.computed() == [100, 300]

    run(main())


@pytest.mark.parametrize(
    "nonsense",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        MAGIC + (8).to_bytes(4, "little") + (64).to_bytes(4, "little"),
        MAGIC + (1 << 31).to_bytes(4, "little") + (8).to_bytes(4, "little"),
        MAGIC + (24).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"\xc1" * 12,
    ],
)
def test_nonsense_ends_only_its_own_connection(stage: Stage, nonsense: bytes) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            reader, writer = await asyncio.open_unix_connection(stage.spec.socket)
            await reader.readexactly(12)
            writer.write(nonsense)
            async with asyncio.timeout(5):
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1 << 20)
            writer.close()
            assert (await handle.submit(call(100))).outputs["y"][0, 0] == 200

    run(main())


def test_half_a_frame_holds_up_nobody(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            _, writer = await asyncio.open_unix_connection(stage.spec.socket)
            writer.write(MAGIC + (4096).to_bytes(4, "little") + (64).to_bytes(4, "little") + b"...")
            await writer.drain()
            assert (await handle.submit(call(100))).outputs["y"][0, 0] == 200
            writer.close()
            await handle.submit(call(101))

    run(main())


def test_probing_tells_how_a_worker_stands(stage: Stage) -> None:
    async def main() -> None:
        with pytest.raises(ReplicaUnavailable):
            await probe(stage.spec.socket, 1)
        (stage.folder / "broken").touch()
        stage.start_worker()
        state = None
        async with asyncio.timeout(10):
            while state in (None, "loading"):
                try:
                    hello = await probe(stage.spec.socket, 1)
                except ReplicaUnavailable:
                    await asyncio.sleep(0.01)
                    continue
                state = hello.state
        assert state == "failed"
        assert hello.fault is not None
        assert hello.fault.code == "engine.load"

    run(main())


def test_a_closed_replica_is_gone_without_a_collection(stage: Stage) -> None:
    """A model loaded on demand has a new one each time; in a cycle they would lie about until the collector looks."""

    async def main() -> weakref.ref[ProcessReplica]:
        stage.start_worker()
        await until(lambda: stage_is_up(stage))
        replica = await ProcessPlacement().open(stage.spec)
        assert (await replica.submit(call(7))).outputs["y"][0, 0] == 14
        await replica.close()
        return weakref.ref(replica)

    async def look() -> None:
        left = await main()
        await asyncio.sleep(0)  # what the loop still had to call
        assert left() is None

    gc.disable()
    try:
        run(look())
    finally:
        gc.enable()


def test_large_tensors_are_shared_both_ways_and_leave_nothing_open(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            assert stage.worker is not None
            own, workers = Path("/proc/self/fd"), Path(f"/proc/{stage.worker.pid}/fd")
            before = len([*own.iterdir()]), len([*workers.iterdir()])
            large = call(100, rows=1 << 18)
            kept = [await handle.submit(large) for _ in range(40)]  # more than may be on offer at once
            assert all(np.array_equal(answer.outputs["y"], 2 * large.inputs["x"]) for answer in kept)
            assert "memfd:tensor" in Path("/proc/self/maps").read_text()  # what is kept
            await handle.submit(call(101))  # a round trip: all has been said
            assert (len([*own.iterdir()]), len([*workers.iterdir()])) == before
            kept.clear()
            gc.collect()
            assert "memfd:tensor" not in Path("/proc/self/maps").read_text()

    run(main())


def test_a_worker_that_is_killed_with_large_tensors_leaves_nothing_open(stage: Stage) -> None:
    async def main() -> None:
        async with stage.opened() as handle:
            assert stage.worker is not None
            before = len([*Path("/proc/self/fd").iterdir()])
            stage.worker.send_signal(signal.SIGSTOP)
            had = [handle.submit(call(100, rows=1 << 18)) for _ in range(5)]
            await until(lambda: len([*Path("/proc/self/fd").iterdir()]) == before + 5)
            stage.kill_worker()
            outcomes = await asyncio.gather(*had, return_exceptions=True)
            assert all(isinstance(outcome, ReplicaLost) for outcome in outcomes)
            stage.start_worker()
            assert (await handle.submit(call(101))).outputs["y"][0, 0] == 202
            assert len([*Path("/proc/self/fd").iterdir()]) == before

    run(main())


def test_a_worker_that_does_not_exist_does_not_open(stage: Stage) -> None:
    async def main() -> None:
        with pytest.raises(ReplicaUnavailable):
            await ProcessPlacement(reconnect_seconds=0.1).open(stage.spec)

    run(main())


def test_a_worker_that_does_not_read_is_not_written_to_without_bound(stage: Stage) -> None:
    async def main() -> None:
        limits = ReplicaLimits(max_queue_bytes=8 << 20)
        async with stage.opened(limits) as handle:
            assert stage.worker is not None
            stage.worker.send_signal(signal.SIGSTOP)
            futures = []
            while len(futures) < 40:
                try:
                    futures.append(handle.submit(call(100 + len(futures), rows=1 << 16)))
                except Overloaded:
                    break
                await asyncio.sleep(0)
            assert len(futures) < 40  # half a megabyte each: the queue's bytes and what sockets hold
            stage.worker.send_signal(signal.SIGCONT)
            answered = await asyncio.gather(*futures, return_exceptions=True)
            assert all(isinstance(each, Overloaded) or each.outputs["y"].shape == (1 << 16, 2) for each in answered)

    run(main())
