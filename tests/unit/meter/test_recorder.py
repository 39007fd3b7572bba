from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ledgers import usage
from mofang.base.domain.errors import Draining, InvalidUsage, StorageFull
from mofang.base.domain.usage import UsageRecord, UsageSheet
from mofang.base.storage.journal import JournalWriter, read_records, segments
from mofang.sell.meter.codec import decode
from mofang.sell.meter.recorder import Recorder


class CountingJournal:
    """A journal in memory that can be full."""

    def __init__(self) -> None:
        self.buffered: list[bytes] = []
        self.written: list[list[bytes]] = []
        self.full = False
        self.closed = False

    def append(self, payload: bytes) -> None:
        self.buffered.append(payload)

    def flush(self) -> None:
        buffered, self.buffered = self.buffered, []
        if self.full:
            raise StorageFull("the disk is full", retry_after_seconds=5)
        self.written.append(buffered)

    def close(self) -> None:
        self.closed = True


def record(recorder: Recorder, usage: UsageRecord) -> asyncio.Future[None]:
    """Record, and return a future of its being written."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def written(error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    recorder.record(usage, written)
    return future


def test_what_one_turn_answers_is_one_flush() -> None:
    async def scenario() -> CountingJournal:
        journal = CountingJournal()
        recorder = Recorder(journal)
        first = [record(recorder, usage(number)) for number in range(50)]
        assert not any(future.done() for future in first)
        assert journal.written == []
        await asyncio.gather(*first)
        await record(recorder, usage(50))
        recorder.close()
        return journal

    journal = asyncio.run(scenario())
    assert [len(flush) for flush in journal.written] == [50, 1]
    assert [decode(payload) for payload in journal.written[0]] == [[usage(number)] for number in range(50)]


def sheet(*request_ids: str, at: int = 5) -> UsageSheet:
    lines = [(request_id, 1, 10, 400, 40) for request_id in request_ids]
    return UsageSheet(at, "acme", "shop", "k1", "digits", 1, 1, "sha256:a", lines)


def ids(payload: bytes) -> list[str]:
    return [each.request_id for each in decode(payload)]


def test_sheets_are_written_when_the_call_returns_together_with_what_waits() -> None:
    async def scenario() -> None:
        journal, told = CountingJournal(), []
        recorder = Recorder(journal)
        single = record(recorder, usage(1))
        recorder.record_all([sheet("a", "b"), sheet("c")], told.append)
        [flush] = journal.written
        assert [ids(payload) for payload in flush] == [["req_00000001"], ["a", "b"], ["c"]]
        assert told == [None]
        await single
        recorder.close()
        assert len(journal.written) == 1

    asyncio.run(scenario())


def test_of_sheets_that_cannot_be_written_none_is_kept() -> None:
    async def scenario() -> None:
        journal, told = CountingJournal(), []
        recorder = Recorder(journal)
        journal.full = True
        single = record(recorder, usage(1))
        recorder.record_all([sheet("a")], told.append)
        assert isinstance(told.pop(), StorageFull)
        with pytest.raises(StorageFull):
            await single
        journal.full = False
        with pytest.raises(InvalidUsage, match="calendar"):
            recorder.record_all([sheet("b"), sheet("c", at=-1)], told.append)
        recorder.record_all([sheet("d")], told.append)
        recorder.close()
        with pytest.raises(Draining):
            recorder.record_all([sheet("e")], told.append)
        assert told == [None]
        assert [ids(payload) for [payload] in journal.written] == [["d"]]

    asyncio.run(scenario())


def test_a_record_is_in_the_journal_when_its_future_is_done(tmp_path: Path) -> None:
    async def scenario() -> None:
        recorder = Recorder(JournalWriter(tmp_path, "gateway-0"))
        for number in range(3):
            await record(recorder, usage(number))
            (segment,) = segments(tmp_path)
            assert [ids(payload) for payload, _ in read_records(segment)][-1] == [usage(number).request_id]
        recorder.close()

    asyncio.run(scenario())


def test_a_full_disk_fails_that_turn_only_and_each_waiter_gets_an_error_of_its_own() -> None:
    async def scenario() -> None:
        journal = CountingJournal()
        recorder = Recorder(journal)
        journal.full = True
        failed = await asyncio.gather(*(record(recorder, usage(n)) for n in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [StorageFull] * 3
        assert len({id(error) for error in failed}) == 3
        assert {error.retry_after_seconds for error in failed if isinstance(error, StorageFull)} == {5}
        journal.full = False
        await record(recorder, usage(4))
        assert [[decode(payload) for payload in flush] for flush in journal.written] == [[[usage(4)]]]

    asyncio.run(scenario())


def test_a_caller_that_goes_away_does_not_take_its_neighbours_along() -> None:
    async def scenario() -> None:
        journal = CountingJournal()
        recorder = Recorder(journal)
        gone, stays = record(recorder, usage(1)), record(recorder, usage(2))
        gone.cancel()
        await stays
        assert len(journal.written[0]) == 2

    asyncio.run(scenario())


def test_close_flushes_what_is_buffered_and_takes_no_more() -> None:
    async def scenario() -> None:
        journal = CountingJournal()
        recorder = Recorder(journal)
        last = record(recorder, usage(1))
        recorder.close()
        recorder.close()
        assert last.done()
        assert journal.closed
        with pytest.raises(Draining):
            record(recorder, usage(2))
        await asyncio.sleep(0)  # the flush that was scheduled finds nothing to do
        assert len(journal.written) == 1

    asyncio.run(scenario())
