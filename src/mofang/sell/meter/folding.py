"""What a fold adds to the ledger, decided purely: the rows of new events, and the sums they add to their hours.

The store reads what the ledger knows, asks :func:`new_rows`, and writes what it answers. No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mofang.base.domain.usage import Charge, UsageRecord
from mofang.sell.meter.windows import hour_of, month_of

EventRow = tuple[int, int, str, int, str, int, int]
"""Sequence number, series id, request id, attempt, meter, time, quantity: tuples, since there are very many."""
WindowRow = dict[str, Any]
EventKey = tuple[str, int, str]
"""Request id, attempt, meter: the event id, in parts."""


class Series(NamedTuple):
    """What all events of one client, version and outcome have in common."""

    key_id: str
    tenant: str
    project: str
    endpoint: str
    revision: int
    version: int
    digest: str
    outcome: str
    source: str


class Fold(NamedTuple):
    """What one fold adds: the bytes ``start`` to ``end`` of ``segment`` as events, and the sums these add to hours.

    Whoever must follow the ledger exactly (late usage, the audit log) is told of it inside its transaction.
    """

    segment: str
    start: int
    end: int
    events: Sequence[EventRow]
    windows: Sequence[WindowRow]
    series: Mapping[int, Series]


def series_of(record: UsageRecord) -> Series:
    """Return the series that the events of ``record`` belong to."""
    return Series(
        record.key_id,
        record.tenant,
        record.project,
        record.endpoint,
        record.revision,
        record.version,
        record.digest,
        record.outcome,
        record.source,
    )


def new_rows(
    records: Sequence[UsageRecord], ids: Mapping[Series, int], known: set[EventKey], first_seq: int
) -> tuple[list[EventRow], list[WindowRow]]:
    """Return the rows to add to the events and to the windows, for all events of ``records`` not in ``known``.

    ``ids`` has the id of every series; events are numbered from ``first_seq``. An event that comes twice counts once.
    """
    seen = set(known)
    events: list[EventRow] = []
    windows: dict[tuple[int, int, str], WindowRow] = {}
    for record in records:
        series_id, hour = ids[series_of(record)], hour_of(record.at)
        for meter, quantity in record.quantities.items():
            key = (record.request_id, record.attempt, meter)
            if key in seen:
                continue
            seen.add(key)
            seq = first_seq + len(events)
            events.append((seq, series_id, record.request_id, record.attempt, meter, record.at, quantity))
            window = windows.get((hour, series_id, meter))
            if window is None:
                window = windows[hour, series_id, meter] = _window(hour, series_id, meter, seq)
            window["quantity"] += quantity
            window["events"] += 1
            window["last_seq"] = seq
    return events, list(windows.values())


def new_charges(records: Sequence[UsageRecord], events: Sequence[EventRow]) -> list[Charge]:
    """Return what the records behind new ``events`` took out of budgets: of one that comes twice, once."""
    new = {(event[2], event[3]) for event in events}
    charges: list[Charge] = []
    for record in records:
        if record.charges and (record.request_id, record.attempt) in new:
            new.remove((record.request_id, record.attempt))
            charges += record.charges
    return charges


def _window(hour: int, series_id: int, meter: str, seq: int) -> WindowRow:
    row: WindowRow = {"hour": hour, "series_id": series_id, "meter": meter, "month": month_of(hour)}
    return row | {"quantity": 0, "events": 0, "first_seq": seq, "last_seq": seq}
