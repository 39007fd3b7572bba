"""The audit log as a witness of the ledger: every fold leaves a record with a digest of the events it added.

So that an invoice, the events it is made of, and what the audit log saw are one (G5): whoever changes the ledger would
have to change the log as well, whose heads are signed and kept elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mofang.base.audit.chain import AuditRecord
from mofang.base.audit.store import AuditStore
from mofang.base.domain.errors import LedgerBroken
from mofang.sell.meter.folding import EventRow, Fold, RecordRow, Series, events_in
from mofang.sell.meter.store import UsageStore

ACTOR = "settler"
FOLD = "usage.fold"
SERIES = "usage.series"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What the audit log vouches for: so many events of the ledger, added by so many folds."""

    events: int
    folds: int


def digest_of(rows: Sequence[RecordRow | EventRow]) -> str:
    """Return the SHA-256 (hex) of rows of the ledger as JSON, in which meters go by their names."""
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


class Witness:
    """Told of each fold, inside its transaction; verifies afterwards that the ledger is what it was told."""

    def __init__(self, audit: AuditStore) -> None:
        self._audit = audit
        self._known: set[int] = set()

    def note(self, fold: Fold) -> None:
        """Record what a fold adds, and who a series of events is of when it is first seen."""
        used = {row[1] for row in fold.records}
        for series_id in sorted(used - self._known):
            name = str(series_id)
            if self._audit.has(SERIES, name):
                self._known.add(series_id)
            else:
                told = fold.series[series_id]._asdict()  # word by word, so that each can be erased alone
                self._audit.append(ACTOR, SERIES, name, before=None, after={"series": series_id}, details=told)
        last = fold.records[-1][0]
        told = {"events": [fold.first, last], "records": digest_of(fold.records)}
        before, after = {"last_event": fold.first - 1}, {"last_event": last}
        self._audit.append(ACTOR, FOLD, fold.segment, before=before, after=after, details=told)

    def verify(self, usage: UsageStore) -> UsageReport:
        """Compare the whole ledger with the log; raise LedgerBroken, which names the first events that differ.

        What the log itself is worth, :meth:`AuditStore.verify` tells.
        """
        seen = folds = after = 0
        while records := self._audit.list(after, _PAGE, action="usage"):
            for record in records:
                if record.action == FOLD:
                    seen, folds = _check_fold(record, usage, seen), folds + 1
                else:
                    _check_series(record, usage.series(int(record.target)))
            after = records[-1].seq
        if usage.count() != seen:
            raise LedgerBroken(f"the ledger has {usage.count()} events, audit records vouch for {seen}")
        return UsageReport(seen, folds)


def _check_fold(record: AuditRecord, usage: UsageStore, seen: int) -> int:
    """Check the events of one fold; return the number of the last."""
    first, last, *before = record.details["events"]
    if seen and first != seen + 1:
        raise LedgerBroken(f"audit record {record.seq} tells of events from {first}, the one before up to {seen}")
    rows = usage.rows(first, last)
    if before:  # a digest of events: folded when the ledger had a row for each
        good = digest_of([event for event in events_in(rows) if first <= event[0] <= last]) == before[0]
    else:
        good = digest_of(rows) == record.details["records"]
    if not good:
        raise LedgerBroken(f"events {first} to {last} of the ledger are not those that audit record {record.seq} saw")
    return int(last)


def _check_series(record: AuditRecord, series: Series | None) -> None:
    told = {name: word for name, word in record.details.items() if name in Series._fields}
    if series is None or any(str(word) != str(getattr(series, name)) for name, word in told.items()):
        raise LedgerBroken(f"series {record.target} of the ledger is not the one that audit record {record.seq} saw")
