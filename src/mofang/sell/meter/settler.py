"""The patient half of metering: folds journal segments into the ledger and removes those that are done.

The controller runs it every moment; anyone may run it beside, or again after a crash, since the ledger compares and
moves a segment's offset in the transaction that adds its events. It must not know SQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mofang.base.domain.errors import JournalDamaged
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.journal import is_live, read_records, segments
from mofang.sell.meter.codec import decode
from mofang.sell.meter.store import UsageStore

CHUNK_RECORDS = 5_000
"""Records in one transaction: long enough to spread its cost, short enough that other writers hardly wait."""


@dataclass(frozen=True, slots=True)
class FoldReport:
    """What one fold did. ``damaged`` names each segment that cannot be read to its end, and why."""

    records: int = 0
    events: int = 0
    segments_removed: int = 0
    damaged: tuple[str, ...] = ()


class Settler:
    """Brings all usage records under ``folder`` into ``store``."""

    def __init__(self, folder: Path, store: UsageStore, *, chunk_records: int = CHUNK_RECORDS) -> None:
        self._folder = folder
        self._store = store
        self._chunk_records = chunk_records

    def fold(self) -> FoldReport:
        """Fold all that is in the journal now, and remove the segments that end there and whose writer is gone.

        A damaged segment stays, folded up to the damage, and does not stop the others.
        Raises StorageFull or StorageUnavailable if the ledger cannot be written; what was folded so far stays.
        """
        records = events = removed = 0
        damaged: list[str] = []
        for segment in segments(self._folder):
            with suppress(FileNotFoundError):  # another settler removed it, having folded it
                finished = not is_live(segment)  # asked before reading: so nothing comes after what is read
                try:
                    for read, new in self._fold(segment):
                        records += read
                        events += new
                except JournalDamaged as error:
                    damaged.append(f"{segment.name}: {error}")
                    continue
                if finished:
                    segment.unlink()
                    removed += 1
        return FoldReport(records, events, removed, tuple(damaged))

    def _fold(self, segment: Path) -> Iterator[tuple[int, int]]:
        """Fold ``segment`` chunk by chunk, yielding how many records were read and events were new."""
        start = self._store.folded(segment.name)
        for records, end in _chunks(segment, start, self._chunk_records):
            new = self._store.fold(segment.name, start, end, records)
            if new is None:  # another settler was here first: go on where it is
                yield from self._fold(segment)
                return
            yield len(records), new
            start = end


def _chunks(segment: Path, start: int, size: int) -> Iterator[tuple[list[UsageRecord], int]]:
    """Yield about ``size`` records at a time, and the offset after them; raise JournalDamaged after the good ones."""
    records: list[UsageRecord] = []
    end = start
    try:
        for payload, after in read_records(segment, start):
            records += decode(payload)
            end = after
            if len(records) >= size:
                yield records, end
                records = []
    except JournalDamaged:
        if records:
            yield records, end
        raise
    if records:
        yield records, end
