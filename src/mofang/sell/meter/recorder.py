"""The hot half of metering: records go into the journal, one flush for all that one event-loop turn answered.

Gateways call :meth:`Recorder.record` and send the answer only when they are told that it is written, so that no answer
leaves without its record. It must not know the ledger: the settler brings the records there later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from copy import copy
from typing import Protocol

from mofang.base.domain.errors import Draining
from mofang.base.domain.usage import UsageRecord, UsageSheet
from mofang.sell.meter.codec import encode, encode_sheet

Written = Callable[[Exception | None], None]
"""Told once that a record is in the journal, or why it is not."""


class Journal(Protocol):
    """What the recorder needs of a JournalWriter."""

    def append(self, payload: bytes) -> None:
        """Buffer one record."""
        ...

    def flush(self) -> None:
        """Write all that is buffered; raise StorageFull, and keep nothing, if that fails."""
        ...

    def close(self) -> None:
        """End the journal's live segment."""
        ...


class Recorder:
    """Appends usage records for one event loop. Not to be shared between loops or threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: list[Written] = []
        self._closed = False

    def record(self, usage: UsageRecord, written: Written) -> None:
        """Buffer ``usage``; ``written`` is called when it is in the journal, or with StorageFull.

        Raises InvalidUsage for quantities that cannot be billed, and Draining after :meth:`close`.
        """
        if self._closed:
            raise Draining("the journal is closed")
        self._journal.append(encode(usage))
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(written)

    def record_all(self, sheets: Iterable[UsageSheet], written: Written) -> None:
        """Write ``sheets`` and what is buffered now; ``written`` is called as by :meth:`record`, perhaps already.

        Raises InvalidUsage for a time that cannot be billed, and Draining after :meth:`close`.
        """
        if self._closed:
            raise Draining("the journal is closed")
        for payload in [encode_sheet(sheet) for sheet in sheets]:  # all or none
            self._journal.append(payload)
        self._waiting.append(written)
        self._flush()

    def close(self) -> None:
        """Flush what is buffered and close the journal. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._flush()
        self._journal.close()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return  # it was written before the turn ended
        try:
            self._journal.flush()
        except Exception as error:  # whatever it is: it belongs to those who wait, and nobody may wait for ever
            for written in waiting:
                # A copy each: raised in a thousand tasks, one exception would collect all their tracebacks.
                written(copy(error))
            return
        self._flushed(waiting)

    def _flushed(self, waiting: list[Written]) -> None:
        """What the kernel has survives this process: that is enough here."""
        for written in waiting:
            written(None)
