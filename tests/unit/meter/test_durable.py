"""Recording that survives a power cut: who is told when, and what happens when the disk fails."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ledgers import usage
from mofang.base.domain.errors import JournalUnsafe
from mofang.base.storage.journal import JournalWriter, read_records, segments, sync_all
from mofang.sell.meter.codec import decode
from mofang.sell.meter.durable import DurableRecorder


class Disk:
    """Syncs when it is let, and tells what it covered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.free = threading.Event()
        self.begun = threading.Event()
        self.covered: list[int] = []  # records on the disk after each sync
        self.broken = False

    def sync(self, descriptors: list[int]) -> None:
        covered = sum(1 for path in segments(self.folder) for _ in read_records(path))
        self.begun.set()
        assert self.free.wait(10)
        sync_all(descriptors)
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        self.covered.append(covered)


class Desk:
    """A recorder on a disk, and who was told what."""

    def __init__(self, folder: Path, **options: int) -> None:
        self.disk = Disk(folder)
        self.failures: list[Exception] = []
        journal = JournalWriter(folder, "gateway-0", syncs=True, **options)
        self.recorder = DurableRecorder(journal, self.disk.sync, self.failures.append)

    def record(self, number: int) -> asyncio.Future[None]:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def written(error: Exception | None) -> None:
            told.set_exception(error) if error is not None else told.set_result(None)

        self.recorder.record(usage(number), written)
        return told

    async def syncing(self) -> None:
        assert await asyncio.to_thread(self.disk.begun.wait, 10)
        self.disk.begun.clear()


def run(scenario: Callable[[], object]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_nobody_is_told_before_the_sync_that_covers_them_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        first = [desk.record(number) for number in range(3)]
        await desk.syncing()
        second = [desk.record(number) for number in range(3, 8)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(told.done() for told in first + second)
        desk.disk.free.set()
        await asyncio.gather(*first, *second)
        assert desk.disk.covered == [3, 8]  # what came during a sync shares the next
        desk.recorder.close()

    run(scenario)


def test_segments_that_end_are_synced_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path, segment_bytes=1)
        desk.disk.free.set()
        await asyncio.gather(*(desk.record(number) for number in range(3)))
        await desk.record(4)
        assert len(segments(tmp_path)) == 2
        desk.recorder.close()
        assert desk.disk.covered[-1] == 4

    run(scenario)


def test_a_sync_that_fails_is_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.disk.free.set()
        await desk.record(1)
        desk.disk.free.clear()
        desk.disk.broken = True
        desk.disk.begun.clear()
        covered = desk.record(2)
        await desk.syncing()
        waiting = desk.record(3)
        desk.disk.free.set()
        for told in (covered, waiting):
            with pytest.raises(JournalUnsafe, match="Input/output error"):
                await told
        desk.disk.broken = False
        with pytest.raises(JournalUnsafe):
            desk.record(4)
        desk.recorder.close()
        assert len(desk.failures) == 1
        assert desk.disk.covered == [1]  # and never tried again
        (segment,) = segments(tmp_path)
        assert [decode(payload) for payload, _ in read_records(segment)] == [[usage(1)]]

    run(scenario)


def test_close_syncs_what_is_buffered(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.disk.free.set()
        told = desk.record(1)
        desk.recorder.close()
        assert told.done()
        assert desk.disk.covered == [1]

    run(scenario)
