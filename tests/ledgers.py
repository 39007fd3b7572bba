"""What tests of the ledger share: records, journals of them, and a database with the ledger's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mofang.base.domain.usage import UsageEvent, UsageRecord, events_of
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.journal import JournalWriter
from mofang.sell.meter.codec import encode
from mofang.sell.meter.store import UsageStore

NOON = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
HOUR = 3_600_000_000


def usage(number: int = 1, **changes: object) -> UsageRecord:
    fields = {
        "request_id": f"req_{number:08d}",
        "at": NOON + number,
        "tenant": "acme",
        "project": "vision",
        "key_id": "key1",
        "endpoint": "digits",
        "revision": 3,
        "version": 2,
        "digest": "sha256:" + "ab" * 32,
        "outcome": "ok",
        "quantities": {"requests": 1, "rows": number % 7 + 1, "compute_us": 100 + number % 13},
    }
    return UsageRecord(**(fields | changes))  # type: ignore[arg-type]


@contextmanager
def open_ledger(path: Path) -> Iterator[UsageStore]:
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        metadata.create_all(connection)
    try:
        yield UsageStore(database)
    finally:
        database.close()


def write_journal(
    folder: Path, records: Iterable[UsageRecord], writer: str = "gateway-0", flush_every: int = 10
) -> None:
    journal = JournalWriter(folder, writer)
    for number, record in enumerate(records, 1):
        journal.append(encode(record))
        if number % flush_every == 0:
            journal.flush()
    journal.close()


def all_events(store: UsageStore) -> list[UsageEvent]:
    events: list[UsageEvent] = []
    page = store.events(limit=10_000)
    events += page.items
    while page.next is not None:
        page = store.events(after=page.next, limit=10_000)
        events += page.items
    return events


def oracle(records: Iterable[UsageRecord]) -> dict[str, UsageEvent]:
    """The events that must be in the ledger: of every id the first."""
    expected: dict[str, UsageEvent] = {}
    for record in records:
        for event in events_of(record):
            expected.setdefault(event.event_id, event)
    return expected


def sums(events: Iterable[UsageEvent]) -> Counter[tuple[object, ...]]:
    counter: Counter[tuple[object, ...]] = Counter()
    for event in events:
        hour = event.at - event.at % HOUR
        counter[event.project, event.endpoint, event.digest, event.version, event.meter, hour] += event.quantity
    return counter


def window_sums(store: UsageStore) -> Counter[tuple[object, ...]]:
    by = ("project", "endpoint", "digest", "version", "meter", "hour")
    return Counter({tuple(total.group[name] for name in by): total.quantity for total in store.totals(by)})


def assert_ledger_is(store: UsageStore, records: list[UsageRecord]) -> None:
    expected = oracle(records)
    found = all_events(store)
    assert len(found) == len(expected) == store.count()
    assert {event.event_id: event for event in found} == expected
    assert window_sums(store) == sums(expected.values())
