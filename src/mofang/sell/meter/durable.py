"""The recorder that survives a power cut: answers wait for a sync, which covers all that was written before it began.

Syncs run one at a time in a thread of their own. What comes meanwhile is for the next one, and that one waits a little
for those who were just answered, since they will ask again: else clients would fall into two groups, each of which
waits for the other's sync as well as for its own.

A sync that fails is the end. What is on the disk then nobody knows, and after the first failure the kernel may forget
it: so nothing is acknowledged any more, and the process ends for the supervisor to start anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import Protocol

from mofang.base.domain.errors import JournalUnsafe
from mofang.base.domain.usage import UsageRecord, UsageSheet
from mofang.sell.meter.recorder import Journal, Recorder, Written

_GATHER = 0.4  # of the time a sync takes, the longest wait for those who were just answered


class SyncedJournal(Journal, Protocol):
    """What the recorder needs of a JournalWriter that syncs."""

    def unsynced(self) -> list[int]:
        """Return descriptors of all that was flushed since the last call."""
        ...

    def abandon(self) -> None:
        """Take back what is not synced; write no more."""
        ...


class DurableRecorder(Recorder):
    """``sync`` makes descriptors durable and closes them; ``on_failure`` is told once that it could not."""

    def __init__(
        self, journal: SyncedJournal, sync: Callable[[list[int]], None], on_failure: Callable[[Exception], None]
    ) -> None:
        super().__init__(journal)
        self._synced_journal = journal
        self._sync = sync
        self._on_failure = on_failure
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._next: list[Written] = []  # for the next sync
        self._covered: list[Written] = []  # by the sync under way
        self._running = False
        self._gathering: asyncio.TimerHandle | None = None
        self._expected = 0  # how many the next sync should cover
        self._seconds = 0.0  # that a sync takes
        self._failure: JournalUnsafe | None = None

    def record(self, usage: UsageRecord, written: Written) -> None:
        """See :meth:`Recorder.record`. Raises JournalUnsafe once a sync has failed."""
        if self._failure is not None:
            raise copy(self._failure)
        super().record(usage, written)

    def record_all(self, sheets: Iterable[UsageSheet], written: Written) -> None:
        """See :meth:`Recorder.record_all`. Raises JournalUnsafe once a sync has failed."""
        if self._failure is not None:
            raise copy(self._failure)
        super().record_all(sheets, written)

    def close(self) -> None:
        """Flush and sync what is buffered and close the journal. Calling it again does nothing."""
        super().close()
        self._thread.shutdown()
        if self._failure is None:
            self._covered += self._next
            self._next = []
            try:
                self._sync(self._synced_journal.unsynced())
            except OSError as error:
                self._fail(error)
            else:
                self._tell(None)

    def _flushed(self, waiting: list[Written]) -> None:
        self._next += waiting
        if not self._running and not self._closed and (self._gathering is None or len(self._next) >= self._expected):
            self._begin()

    def _begin(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._closed or self._failure is not None or not self._next:
            return
        self._running = True
        self._covered, self._next = self._next, []
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        syncing = loop.run_in_executor(self._thread, self._sync, self._synced_journal.unsynced())
        syncing.add_done_callback(lambda done: self._end(done, time.monotonic() - began))

    def _end(self, done: asyncio.Future[None], seconds: float) -> None:
        self._running = False
        error = done.exception()
        if error is not None:
            self._fail(error)
            return
        self._seconds = seconds if not self._seconds else 0.9 * self._seconds + 0.1 * seconds
        self._expected = len(self._covered) + len(self._next)
        wait = _GATHER * self._seconds
        self._gathering = asyncio.get_running_loop().call_later(wait, self._begin)
        self._tell(None)

    def _fail(self, error: BaseException) -> None:
        self._failure = JournalUnsafe(f"usage could not be made durable: {error}", retry_after_seconds=5)
        self._synced_journal.abandon()
        self._covered += self._next
        self._next = []
        self._tell(self._failure)
        self._on_failure(self._failure)

    def _tell(self, error: Exception | None) -> None:
        covered, self._covered = self._covered, []
        for written in covered:
            written(copy(error))
