"""The usage ledger: every event once, the sums of every hour, and how far each journal segment was folded.

The settler folds records in; the control API and billing read. All that one fold changes is one transaction, and one
writer at a time is what :class:`Database` promises, so folding twice, at once, or after a crash changes nothing. The
ledger must not know how a journal looks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from mofang.base.domain.errors import InvalidRequest
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database, metadata
from mofang.sell.meter.events import store as events
from mofang.sell.meter.folding import Fold, RecordRow, Series, new_charges, new_rows, series_of
from mofang.sell.meter.pages import Settle, UsagePage, UsageTotal, Use, Variants
from mofang.sell.meter.windows import DAY_US, MAX_AT, UsageRow, check_period

_windows = Table(
    "usage_windows",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("series_id", ForeignKey(events.series.c.id), primary_key=True, autoincrement=False),
    Column("meter", String, primary_key=True),
    Column("month", BigInteger, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False, server_default="1"),  # its events lie between these, among others
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
)
_segments = Table(
    "usage_segments",
    metadata,
    Column("name", String, primary_key=True),
    Column("folded", BigInteger, nullable=False),  # bytes of the segment that are in the ledger
)

_TEXTS: dict[str, ColumnElement[Any]] = {
    column.name: column for column in events.series.c if isinstance(column.type, String)
}
_SUMMED: dict[str, ColumnElement[Any]] = {  # what windows are grouped by, beside their series
    "meter": _windows.c.meter,
    "hour": _windows.c.hour,
    "day": _windows.c.hour - _windows.c.hour % literal_column(str(DAY_US)),
    "month": _windows.c.month,
}
_GROUPS: dict[str, ColumnElement[Any]] = {
    **{name: events.series.c[name] for name in Series._fields},
    "variant": events.series.c.variant,
    **_SUMMED,
}
_ADDED = ("quantity", "events")
GROUPS = tuple(_GROUPS)
"""What usage can be summed by. Hours, days and months are the microseconds of their start."""

_ADD_TO_WINDOWS = text(
    "INSERT INTO usage_windows (hour, series_id, meter, month, quantity, events, first_seq, last_seq)"
    " VALUES (:hour, :series_id, :meter, :month, :quantity, :events, :first_seq, :last_seq)"
    " ON CONFLICT (hour, series_id, meter) DO UPDATE SET"
    " quantity = usage_windows.quantity + excluded.quantity, events = usage_windows.events + excluded.events,"
    " last_seq = excluded.last_seq"
)
_MOVE_SEGMENT = text(
    "INSERT INTO usage_segments (name, folded) VALUES (:name, :folded)"
    " ON CONFLICT (name) DO UPDATE SET folded = excluded.folded"
)
_ALL: Mapping[str, str] = MappingProxyType({})  # no filter


class UsageStore:
    """The ledger in a database.

    What records took out of budgets is told to ``settle`` (segment, charges), and every fold that adds events to
    ``on_fold``, both in the transaction of their fold. ``variants`` is asked once for every version that answered.
    """

    def __init__(
        self,
        database: Database,
        settle: Settle = lambda segment, charges: None,
        on_fold: Callable[[Fold], None] = lambda fold: None,
        variants: Variants = lambda versions: {},
    ) -> None:
        self._database = database
        self._settle = settle
        self._on_fold = on_fold
        self._variants = variants

    def folded(self, segment: str) -> int:
        """Return how many bytes of ``segment`` are in the ledger."""
        with self._database.read() as connection:
            return _folded(connection, segment)

    def fold(self, segment: str, start: int, end: int, records: Sequence[UsageRecord]) -> int | None:
        """Add the events of ``records``, which are the bytes ``start`` to ``end`` of ``segment``.

        Returns how many events were new: one that is in the ledger already is not added, nor summed, again. Returns
        None, and changes nothing, if another settler folded those bytes: then go on from :meth:`folded`.
        """
        with self._database.write() as connection:
            if _folded(connection, segment) != start:
                return None
            named = [series_of(record) for record in records]
            ids = _series_ids(connection, {*named}, self._variants)
            series = [ids[name] for name in named]
            _note_last(connection, records, series)
            known = events.known(connection, [record.request_id for record in records])
            last = events.count(connection)
            rows, windows = new_rows(records, series, known, last)
            if rows:
                events.add(connection, rows)
                connection.execute(_ADD_TO_WINDOWS, windows)
                names = {number: name for name, number in ids.items()}
                self._on_fold(Fold(segment, start, end, last + 1, rows, windows, names))
            charges = new_charges(records, rows)
            if charges:
                self._settle(segment, charges)
            connection.execute(_MOVE_SEGMENT, {"name": segment, "folded": end})
            return rows[-1][0] - last if rows else 0

    def name_variants(self) -> None:
        """Find out the variants that were not known when their versions first answered."""
        unnamed = (
            select(events.series.c.digest, events.series.c.version).where(events.series.c.variant == "").distinct()
        )
        with self._database.write() as connection:
            found = self._variants([(row.digest, row.version) for row in connection.execute(unnamed)])
            for (digest, version), variant in found.items():
                this = (
                    (events.series.c.digest == digest)
                    & (events.series.c.version == version)
                    & (events.series.c.variant == "")
                )
                connection.execute(update(events.series).where(this).values(variant=variant))

    def count(self) -> int:
        """Return the number of events in the ledger."""
        with self._database.read() as connection:
            return events.count(connection)

    def events(self, filters: Mapping[str, str] = _ALL, *, after: int = 0, limit: int = 100) -> UsagePage:
        """List events in the order they were folded. ``filters``: request_id, tenant, project, ..."""
        columns = {**_TEXTS, "request_id": events.records.c.request_id}
        with self._database.read() as connection:
            return events.page(connection, _conditions(columns, filters), after, limit)

    def totals(
        self,
        by: Sequence[str],
        start: int | None = None,
        end: int | None = None,
        filters: Mapping[str, str] = _ALL,
    ) -> list[UsageTotal]:
        """Sum usage from ``start`` up to ``end`` (full hours; all there is without both), in the order of ``by``.

        ``by`` names columns of :data:`GROUPS`; "meter" is added, since requests and bytes have no sum. Raises
        InvalidRequest for an unknown column, InvalidPeriod for a period that is empty or not of full hours.
        """
        names = tuple(dict.fromkeys((*by, "meter")))
        summed = [_SUMMED[name].label(name) for name in names if name in _SUMMED]
        # First by the numbers of series, which are compared in a third of the time that their texts are.
        sums = (
            select(_windows.c.series_id, *summed, *(func.sum(_windows.c[name]).label(name) for name in _ADDED))
            .where(*_within(filters), *_during(start, end))
            .group_by(_windows.c.series_id, *summed)
            .subquery()
        )
        columns = [(sums.c[name] if name in _SUMMED else _named(_GROUPS, name)).label(name) for name in names]
        query = (
            select(*columns, *(func.sum(sums.c[name]) for name in _ADDED))
            .join_from(sums, events.series, sums.c.series_id == events.series.c.id)
            .group_by(*columns)
            .order_by(*columns)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [UsageTotal(dict(zip(names, row, strict=False)), int(row[-2]), int(row[-1])) for row in rows]

    def last_used(self) -> dict[str, int]:
        """Return for every key that was ever used the time of its last usage."""
        query = select(events.series.c.key_id, func.max(events.series.c.last_at).label("last_at")).group_by(
            events.series.c.key_id
        )
        with self._database.read() as connection:
            return {row.key_id: row.last_at for row in connection.execute(query)}

    def rows(self, first: int, last: int) -> list[RecordRow]:
        """Return the rows that hold the events numbered ``first`` to ``last``, as they were folded."""
        with self._database.read() as connection:
            return events.rows_of(connection, first, last)

    def series(self, series_id: int) -> Series | None:
        """Return what the events of a series have in common."""
        query = select(*(events.series.c[name] for name in Series._fields)).where(events.series.c.id == series_id)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Series(*row)

    def trace(
        self, tenant: str, uses: Mapping[str, Collection[Use]], start: int, end: int, *, after: int = 0,
        last: int | None = None, limit: int = 100,
    ) -> UsagePage:  # fmt: skip
        """List the billable events of ``uses`` (meter -> endpoint, version, digest) from ``start`` up to ``end``.

        In the order they were folded: those numbered above ``after``, up to ``last``.
        """
        with self._database.read() as connection:
            wanted = {meter: _billable_series(connection, tenant, of) for meter, of in uses.items()}
            first, newest = _stretch(connection, [*chain(*wanted.values())], start, end, list(uses))
            numbers = (max(first, after + 1), newest if last is None else min(newest, last))
            return events.trace(connection, wanted, (start, end), numbers, limit)

    def recount(self, tenant: str, start: int, end: int) -> list[UsageRow]:
        """Return what :meth:`billable` does, counted from the events themselves instead of the sums kept of them."""
        with self._database.read() as connection:
            series = _billable_series(connection, tenant)
            return events.summed(connection, series, (start, end), _stretch(connection, series, start, end))

    def billable(self, tenant: str, start: int, end: int) -> list[UsageRow]:
        """Return what ``tenant`` has to pay for, by endpoint, version, meter and hour. An error costs nothing."""
        totals = self.totals(
            ("endpoint", "version", "digest", "meter", "hour"), start, end, {"tenant": tenant, "outcome": "ok"}
        )
        return sorted(UsageRow(**total.group, quantity=total.quantity) for total in totals)


def _billable_series(connection: Connection, tenant: str, uses: Collection[Use] | None = None) -> list[int]:
    """Return the ids of the tenant's series that are paid for, of all or of these ``uses``."""
    query = select(events.series.c.id, events.series.c.endpoint, events.series.c.version, events.series.c.digest)
    rows = connection.execute(query.where(events.series.c.tenant == tenant, events.series.c.outcome == "ok"))
    return [row.id for row in rows if uses is None or (row.endpoint, row.version, row.digest) in uses]


def _stretch(
    connection: Connection, series: Sequence[int], start: int, end: int, meters: Sequence[str] = ()
) -> tuple[int, int]:
    """Return the numbers between which all events of these windows lie; an empty range if there are none."""
    conditions = [_windows.c.series_id.in_(series), *_during(start, end)]
    if meters:
        conditions.append(_windows.c.meter.in_(meters))
    query = select(func.min(_windows.c.first_seq), func.max(_windows.c.last_seq)).where(*conditions)
    first, last = connection.execute(query).one()
    return (1, 0) if first is None else (first, last)


def _series_ids(connection: Connection, keys: set[Series], variants: Variants) -> dict[Series, int]:
    """Return the id of every series, making those that are new."""
    ids = _find_series(connection, keys)
    missing = keys - ids.keys()
    if missing:
        named = variants({(series.digest, series.version) for series in missing})
        rows = [
            {**series._asdict(), "last_at": 0, "variant": named.get((series.digest, series.version), "")}
            for series in sorted(missing)
        ]
        connection.execute(insert(events.series), rows)
        ids = _find_series(connection, keys)
    return ids


def _find_series(connection: Connection, keys: set[Series]) -> dict[Series, int]:
    found: dict[Series, int] = {}
    for key_ids in events.batches({key.key_id for key in keys}):
        for row in connection.execute(select(events.series).where(events.series.c.key_id.in_(key_ids))):
            found[Series(*(row._mapping[name] for name in Series._fields))] = row.id
    return found


def _note_last(connection: Connection, records: Sequence[UsageRecord], series: Sequence[int]) -> None:
    last: dict[int, int] = {}
    for record, series_id in zip(records, series, strict=True):
        if record.at > last.get(series_id, 0):
            last[series_id] = record.at
    query = update(events.series).where(
        events.series.c.id == bindparam("which"), events.series.c.last_at < bindparam("at")
    )
    values = [{"which": which, "at": at} for which, at in last.items()]
    if values:
        connection.execute(query.values(last_at=bindparam("at")), values)


def _folded(connection: Connection, segment: str) -> int:
    return connection.scalar(select(_segments.c.folded).where(_segments.c.name == segment)) or 0


def _within(filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Return the conditions on windows that ``filters`` are, by the meter and by the columns of series."""
    of_meter = _conditions(_SUMMED, {name: value for name, value in filters.items() if name == "meter"})
    of_series = _conditions(_TEXTS, {name: value for name, value in filters.items() if name != "meter"})
    return (
        [*of_meter, _windows.c.series_id.in_(select(events.series.c.id).where(*of_series))] if of_series else of_meter
    )


def _conditions(columns: Mapping[str, ColumnElement[Any]], filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    return [_named(columns, name) == value for name, value in filters.items()]


def _named(columns: Mapping[str, ColumnElement[Any]], name: str) -> ColumnElement[Any]:
    if name not in columns:
        raise InvalidRequest(f"usage has no column {name!r} here", hint=f"use some of {', '.join(columns)}")
    return columns[name]


def _during(start: int | None, end: int | None) -> list[ColumnElement[bool]]:
    check_period(start or 0, MAX_AT if end is None else end)
    since = [] if start is None else [_windows.c.hour >= start]
    return since if end is None else [*since, _windows.c.hour < end]
