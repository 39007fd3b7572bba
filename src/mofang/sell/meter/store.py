"""The usage ledger: every event once, the sums of every hour, and how far each journal segment was folded.

The settler folds records in; the control API and billing read. All that one fold changes is one transaction, and one
writer at a time is what :class:`Database` promises, so folding twice, at once, or after a crash changes nothing. The
ledger must not know how a journal looks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Integer,
    Row,
    Select,
    String,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)

from mofang.base.domain.errors import InvalidRequest
from mofang.base.domain.usage import UsageEvent, UsageRecord
from mofang.base.storage.database import Database, Serial, metadata
from mofang.sell.meter.folding import EventKey, EventRow, Fold, Series, new_charges, new_rows, series_of
from mofang.sell.meter.pages import Settle, UsagePage, UsageTotal, Use, Variants
from mofang.sell.meter.windows import DAY_US, HOUR_US, MAX_AT, UsageRow, check_period

# The columns of a Series, in its order: written once, so that an event is a few numbers.
_series = Table(
    "usage_series",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("tenant", String, nullable=False),
    Column("project", String, nullable=False),
    Column("endpoint", String, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("source", String, nullable=False),
    Column("last_at", BigInteger, nullable=False),  # of its newest event; no part of what names it
    Column("variant", String, nullable=False, server_default=text("''")),  # of the version; follows from the digest
    UniqueConstraint("key_id", "tenant", "project", "endpoint", "revision", "version", "digest", "outcome", "source"),
)
# The event id, request:attempt:meter, in three columns: its index finds the events of a request as well.
_events = Table(
    "usage_events",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),  # without gaps: the cursor of those who follow
    Column("series_id", ForeignKey(_series.c.id), nullable=False),
    Column("request_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("meter", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    UniqueConstraint("request_id", "attempt", "meter"),
)
_windows = Table(
    "usage_windows",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("series_id", ForeignKey(_series.c.id), primary_key=True, autoincrement=False),
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

_TEXTS: dict[str, ColumnElement[Any]] = {column.name: column for column in _series.c if isinstance(column.type, String)}
_SUMMED: dict[str, ColumnElement[Any]] = {  # what windows are grouped by, beside their series
    "meter": _windows.c.meter,
    "hour": _windows.c.hour,
    "day": _windows.c.hour - _windows.c.hour % literal_column(str(DAY_US)),
    "month": _windows.c.month,
}
_GROUPS: dict[str, ColumnElement[Any]] = {
    **{name: _series.c[name] for name in Series._fields},
    "variant": _series.c.variant,
    **_SUMMED,
}
_ADDED = ("quantity", "events")
_TOLD = tuple(field.name for field in fields(UsageEvent) if field.name != "event_id")
GROUPS = tuple(_GROUPS)
"""What usage can be summed by. Hours, days and months are the microseconds of their start."""

_ADD_EVENTS = "INSERT INTO usage_events (seq, series_id, request_id, attempt, meter, at, quantity) VALUES ({})"
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
_BATCH = 5_000  # values in one IN list; SQLite takes 32,766 in a statement


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
            ids = _series_ids(connection, {series_of(record) for record in records}, self._variants)
            _note_last(connection, records, ids)
            known = _known(connection, {record.request_id for record in records})
            events, windows = new_rows(records, ids, known, _count(connection) + 1)
            if events:
                _add_events(connection, events)
                connection.execute(_ADD_TO_WINDOWS, windows)
                self._on_fold(Fold(segment, start, end, events, windows, {ids[series]: series for series in ids}))
            charges = new_charges(records, events)
            if charges:
                self._settle(segment, charges)
            connection.execute(_MOVE_SEGMENT, {"name": segment, "folded": end})
            return len(events)

    def name_variants(self) -> None:
        """Find out the variants that were not known when their versions first answered."""
        unnamed = select(_series.c.digest, _series.c.version).where(_series.c.variant == "").distinct()
        with self._database.write() as connection:
            found = self._variants([(row.digest, row.version) for row in connection.execute(unnamed)])
            for (digest, version), variant in found.items():
                this = (_series.c.digest == digest) & (_series.c.version == version) & (_series.c.variant == "")
                connection.execute(update(_series).where(this).values(variant=variant))

    def count(self) -> int:
        """Return the number of events in the ledger."""
        with self._database.read() as connection:
            return _count(connection)

    def events(self, filters: Mapping[str, str] = _ALL, *, after: int = 0, limit: int = 100) -> UsagePage:
        """List events in the order they were folded. ``filters``: request_id, tenant, project, ..."""
        columns = {**_TEXTS, "request_id": _events.c.request_id}
        query = (
            _select_events()
            .where(_events.c.seq > after, *_conditions(columns, filters))
            .order_by(_events.c.seq)
            .limit(limit + 1)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return _events_page(rows, limit)

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
            .join_from(sums, _series, sums.c.series_id == _series.c.id)
            .group_by(*columns)
            .order_by(*columns)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [UsageTotal(dict(zip(names, row, strict=False)), int(row[-2]), int(row[-1])) for row in rows]

    def last_used(self) -> dict[str, int]:
        """Return for every key that was ever used the time of its last usage."""
        query = select(_series.c.key_id, func.max(_series.c.last_at).label("last_at")).group_by(_series.c.key_id)
        with self._database.read() as connection:
            return {row.key_id: row.last_at for row in connection.execute(query)}

    def rows(self, first: int, last: int) -> list[EventRow]:
        """Return the events numbered ``first`` to ``last`` as they were folded."""
        query = select(_events).where(_events.c.seq.between(first, last)).order_by(_events.c.seq)
        with self._database.read() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def series(self, series_id: int) -> Series | None:
        """Return what the events of a series have in common."""
        query = select(*(_series.c[name] for name in Series._fields)).where(_series.c.id == series_id)
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
            series = {meter: _billable_series(connection, tenant, of) for meter, of in uses.items()}
            first, newest = _stretch(connection, [*chain(*series.values())], start, end, list(uses))
            wanted = [and_(_events.c.meter == meter, _events.c.series_id.in_(ids)) for meter, ids in series.items()]
            query = (
                _select_events()
                .where(_events.c.seq.between(max(first, after + 1), newest if last is None else min(newest, last)))
                .where(or_(*wanted), _events.c.at.between(start, end - 1))
                .order_by(_events.c.seq)
            )
            rows = connection.execute(query.limit(limit + 1)).all()
        return _events_page(rows, limit)

    def recount(self, tenant: str, start: int, end: int) -> list[UsageRow]:
        """Return what :meth:`billable` does, counted from the events themselves instead of the sums kept of them."""
        hour = (_events.c.at - _events.c.at % literal_column(str(HOUR_US))).label("hour")
        columns = (_series.c.endpoint, _series.c.version, _series.c.digest, _events.c.meter, hour)
        with self._database.read() as connection:
            series = _billable_series(connection, tenant)
            first, last = _stretch(connection, series, start, end)
            query = (
                select(*columns, func.sum(_events.c.quantity))
                .join_from(_events, _series)
                .where(_events.c.seq.between(first, last), _events.c.series_id.in_(series))
                .where(_events.c.at.between(start, end - 1))
                .group_by(*columns)
                .order_by(*columns)
            )
            return [UsageRow(*row[:5], int(row[5])) for row in connection.execute(query)]

    def billable(self, tenant: str, start: int, end: int) -> list[UsageRow]:
        """Return what ``tenant`` has to pay for, by endpoint, version, meter and hour. An error costs nothing."""
        totals = self.totals(
            ("endpoint", "version", "digest", "meter", "hour"), start, end, {"tenant": tenant, "outcome": "ok"}
        )
        return [UsageRow(**total.group, quantity=total.quantity) for total in totals]


def _select_events() -> Select[Any]:
    return select(_events, *(_series.c[name] for name in (*Series._fields, "variant"))).join_from(_events, _series)


def _events_page(rows: Sequence[Row[Any]], limit: int) -> UsagePage:
    more = len(rows) > limit
    events = [
        UsageEvent(f"{row.request_id}:{row.attempt}:{row.meter}", **{name: getattr(row, name) for name in _TOLD})
        for row in rows[:limit]
    ]
    return UsagePage(events, rows[limit - 1].seq if more else None)


def _billable_series(connection: Connection, tenant: str, uses: Collection[Use] | None = None) -> list[int]:
    """Return the ids of the tenant's series that are paid for, of all or of these ``uses``."""
    query = select(_series.c.id, _series.c.endpoint, _series.c.version, _series.c.digest)
    rows = connection.execute(query.where(_series.c.tenant == tenant, _series.c.outcome == "ok"))
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
        connection.execute(insert(_series), rows)
        ids = _find_series(connection, keys)
    return ids


def _find_series(connection: Connection, keys: set[Series]) -> dict[Series, int]:
    found: dict[Series, int] = {}
    for key_ids in _batches({key.key_id for key in keys}):
        for row in connection.execute(select(_series).where(_series.c.key_id.in_(key_ids))):
            found[Series(*(row._mapping[name] for name in Series._fields))] = row.id
    return found


def _note_last(connection: Connection, records: Sequence[UsageRecord], ids: Mapping[Series, int]) -> None:
    last: dict[int, int] = {}
    for record in records:
        series_id = ids[series_of(record)]
        last[series_id] = max(record.at, last.get(series_id, 0))
    query = update(_series).where(_series.c.id == bindparam("which"), _series.c.last_at < bindparam("at"))
    connection.execute(
        query.values(last_at=bindparam("at")), [{"which": which, "at": at} for which, at in last.items()]
    )


def _known(connection: Connection, request_ids: set[str]) -> set[EventKey]:
    """Return the ids of all events that the ledger holds of these requests."""
    columns = (_events.c.request_id, _events.c.attempt, _events.c.meter)
    known: set[EventKey] = set()
    for batch in _batches(request_ids):
        rows = connection.execute(select(*columns).where(_events.c.request_id.in_(batch)))
        known.update((row.request_id, row.attempt, row.meter) for row in rows)
    return known


def _add_events(connection: Connection, events: list[EventRow]) -> None:
    # The driver's own executemany: SQLAlchemy would take longer to look at each parameter than SQLite to insert it.
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    connection.exec_driver_sql(_ADD_EVENTS.format(", ".join([mark] * len(_events.c))), events)


def _count(connection: Connection) -> int:
    return connection.scalar(select(func.max(_events.c.seq))) or 0  # seq has no gaps


def _folded(connection: Connection, segment: str) -> int:
    return connection.scalar(select(_segments.c.folded).where(_segments.c.name == segment)) or 0


def _within(filters: Mapping[str, str]) -> list[ColumnElement[bool]]:
    """Return the conditions on windows that ``filters`` are, by the meter and by the columns of series."""
    of_meter = _conditions(_SUMMED, {name: value for name, value in filters.items() if name == "meter"})
    of_series = _conditions(_TEXTS, {name: value for name, value in filters.items() if name != "meter"})
    return [*of_meter, _windows.c.series_id.in_(select(_series.c.id).where(*of_series))] if of_series else of_meter


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


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    """Cut ``values`` into lists that fit into one statement."""
    remaining = iter(values)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
