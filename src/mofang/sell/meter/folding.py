"""What a fold adds to the ledger, decided purely: the rows of new records, and the sums they add to their hours.

The store reads what the ledger knows, asks :func:`new_rows`, and writes what it answers. No I/O here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from mofang.base.domain.errors import LedgerBroken
from mofang.base.domain.usage import Charge, UsageRecord
from mofang.sell.meter.windows import hour_of, month_of

RecordRow = tuple[int, int, str, int, int, str, str]
"""Number of the last event, series id, request id, attempt, time, meters, quantities (:func:`meters_of`)."""
EventRow = tuple[int, int, str, int, str, int, int]
"""Number, series id, request id, attempt, meter, time, quantity."""
WindowRow = dict[str, Any]
AnswerKey = tuple[str, int]
"""Request id and attempt."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[int, ...]).decode


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
    """What one fold adds: the bytes ``start`` to ``end`` of ``segment`` as rows, and the sums these add to hours.

    ``first`` is the number of its first event. Whoever must follow the ledger exactly (late usage, the audit log) is
    told of it inside its transaction.
    """

    segment: str
    start: int
    end: int
    first: int
    records: Sequence[RecordRow]
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
    records: Sequence[UsageRecord],
    series: Sequence[int],
    known: Mapping[AnswerKey, frozenset[str]],
    last_seq: int,
) -> tuple[list[RecordRow], list[WindowRow]]:
    """Return the rows to add to the records and to the windows, for all events of ``records`` not in ``known``.

    ``series`` has the id of each record's series, ``known`` the meters of answers that the ledger holds; events are
    numbered after ``last_seq``. An event that comes twice counts once.
    """
    seen = dict(known)
    rows: list[RecordRow] = []
    sums: dict[tuple[int, int, tuple[str, ...]], list[tuple[int, ...]]] = {}
    seq = last_seq
    for record, series_id in zip(records, series, strict=True):
        answer, quantities = (record.request_id, record.attempt), record.quantities
        if answer in seen:
            quantities = {meter: units for meter, units in quantities.items() if meter not in seen[answer]}
        if not quantities:
            continue
        meters = (*quantities,)
        seen[answer] = seen[answer].union(meters) if answer in seen else _set_of(meters)
        seq += len(meters)
        values = (*quantities.values(),)
        row = (seq, series_id, record.request_id, record.attempt, record.at, _written(meters), _encode(values).decode())
        rows.append(row)
        sums.setdefault((hour_of(record.at), series_id, meters), []).append((seq - len(meters) + 1, *values))
    return rows, _windows(sums)


def new_charges(records: Sequence[UsageRecord], rows: Sequence[RecordRow]) -> list[Charge]:
    """Return what the records behind new ``rows`` took out of budgets: of one that comes twice, once."""
    charged = [record for record in records if record.charges]
    new = {(row[2], row[3]) for row in rows} if charged else set()
    charges: list[Charge] = []
    for record in charged:
        if (record.request_id, record.attempt) in new:
            new.remove((record.request_id, record.attempt))
            charges += record.charges
    return charges


def events_in(rows: Sequence[RecordRow]) -> Iterator[EventRow]:
    """Yield the events that ``rows`` hold, in order."""
    for seq, series_id, request_id, attempt, at, meters, quantities in rows:
        for number, meter, quantity in told(seq, meters, quantities):
            yield number, series_id, request_id, attempt, meter, at, quantity


def told(seq: int, meters: str, quantities: str) -> Iterator[tuple[int, str, int]]:
    """Yield number, meter and quantity of the events of a row. Raises LedgerBroken if it was not written by a fold."""
    names = meters_of(meters)
    try:
        values = _decode(quantities)
    except msgspec.DecodeError as error:
        raise LedgerBroken(f"the quantities of events up to {seq} cannot be read: {error}") from error
    if len(values) != len(names):
        raise LedgerBroken(f"event {seq} is the last of {len(names)} meters and of {len(values)} quantities")
    return zip(range(seq - len(names) + 1, seq + 1), names, values, strict=True)


@lru_cache(maxsize=1000)
def meters_of(written: str) -> tuple[str, ...]:
    """Return the meters that the text ``written`` names."""
    try:
        return msgspec.json.decode(written, type=tuple[str, ...])
    except msgspec.DecodeError as error:
        raise LedgerBroken(f"the meters {written!r} cannot be read: {error}") from error


@lru_cache(maxsize=1000)
def _written(meters: tuple[str, ...]) -> str:
    return _encode(meters).decode()


@lru_cache(maxsize=1000)
def _set_of(meters: tuple[str, ...]) -> frozenset[str]:
    return frozenset(meters)


def _windows(sums: Mapping[tuple[int, int, tuple[str, ...]], Sequence[tuple[int, ...]]]) -> list[WindowRow]:
    """Return the sums of each hour, series and meter. ``sums``: number of the first event, and all quantities."""
    windows: dict[tuple[int, int, str], WindowRow] = {}
    for (hour, series_id, meters), rows in sums.items():
        firsts, *columns = zip(*rows, strict=True)
        for offset, (meter, column) in enumerate(zip(meters, columns, strict=True)):
            first, last = firsts[0] + offset, firsts[-1] + offset
            window = windows.get((hour, series_id, meter))
            if window is None:
                window = windows[hour, series_id, meter] = _window(hour, series_id, meter, first)
            window["quantity"] += sum(column)
            window["events"] += len(column)
            window["first_seq"] = min(window["first_seq"], first)
            window["last_seq"] = max(window["last_seq"], last)
    return list(windows.values())


def _window(hour: int, series_id: int, meter: str, seq: int) -> WindowRow:
    row: WindowRow = {"hour": hour, "series_id": series_id, "meter": meter, "month": month_of(hour)}
    return row | {"quantity": 0, "events": 0, "first_seq": seq, "last_seq": seq}
