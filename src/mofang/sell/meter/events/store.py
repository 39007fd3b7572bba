"""The events of the ledger, one by one: a row for each record that was folded tells one event for each of its meters.

What is written and read here happens on a connection of the store's, in its transaction. A row's number is that of its
last event, so that events are numbered without gaps, and a cursor may stand between any two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
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
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
)

from mofang.base.domain.usage import UsageEvent
from mofang.base.storage.database import Serial, metadata
from mofang.sell.meter.folding import AnswerKey, RecordRow, meters_of, told
from mofang.sell.meter.pages import UsagePage
from mofang.sell.meter.windows import HOUR_US, UsageRow

# The columns of a Series, in its order: written once, so that a record is a few numbers.
series = Table(
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
# What records count: the names of their meters, a JSON array, in the order of their quantities.
meters = Table(
    "usage_meters",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("names", String, nullable=False, unique=True),
)
# An answer: an event for each of its meters, of which request:attempt:meter is the id.
records = Table(
    "usage_records",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),  # of its last event: events have no gaps
    Column("series_id", ForeignKey(series.c.id), nullable=False),
    Column("request_id", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("meters_id", ForeignKey(meters.c.id), nullable=False),
    Column("quantities", String, nullable=False),  # a JSON array of whole numbers
    UniqueConstraint("request_id", "attempt", "meters_id"),
)
_ADD = (
    "INSERT INTO usage_records (seq, series_id, request_id, attempt, at, meters_id, quantities)"
    " VALUES ({0}, {0}, {0}, {0}, {0}, {0}, {0})"
)
_KNOWN = (
    "SELECT request_id, attempt, names FROM usage_records JOIN usage_meters ON usage_meters.id = meters_id"
    " WHERE request_id IN ({})"
)
_BATCH = 5_000  # values in one IN list; SQLite takes 32,766 in a statement
_READ_AT_ONCE = 10_000
_COLUMNS = (records.c.seq, records.c.request_id, records.c.attempt, records.c.at, meters.c.names, records.c.quantities)
_OF_SERIES = tuple(field.name for field in fields(UsageEvent) if field.name in series.c)


def batches(values: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Cut ``values`` into what fits into one statement."""
    remaining = iter(values)
    while batch := tuple(islice(remaining, _BATCH)):
        yield batch


def known(connection: Connection, request_ids: Iterable[str]) -> dict[AnswerKey, frozenset[str]]:
    """Return the meters that the ledger holds of all answers to these requests."""
    found: dict[AnswerKey, frozenset[str]] = {}
    for batch in batches({*request_ids}):
        # As text for the driver: SQLAlchemy takes longer to look at each parameter than SQLite to find it.
        rows = connection.exec_driver_sql(_KNOWN.format(", ".join([_mark(connection)] * len(batch))), batch)
        for request_id, attempt, names in rows:
            found[request_id, attempt] = found.get((request_id, attempt), frozenset()).union(meters_of(names))
    return found


def add(connection: Connection, rows: Sequence[RecordRow]) -> None:
    """Write rows that are new."""
    ids = _meters_ids(connection, {row[5] for row in rows})
    connection.exec_driver_sql(_ADD.format(_mark(connection)), [(*row[:5], ids[row[5]], row[6]) for row in rows])


def count(connection: Connection) -> int:
    """Return the number of events."""
    return connection.scalar(select(func.max(records.c.seq))) or 0


def rows_of(connection: Connection, first: int, last: int) -> list[RecordRow]:
    """Return the rows that hold the events numbered ``first`` to ``last``."""
    columns = (records.c.seq, records.c.series_id, *_COLUMNS[1:])
    query = select(*columns).join_from(records, meters)
    rows = connection.execute(query.where(*_between(first, last)).order_by(records.c.seq))
    return [tuple(row) for row in rows]


def page(connection: Connection, conditions: Sequence[ColumnElement[bool]], after: int, limit: int) -> UsagePage:
    """List the events after number ``after`` whose records are as ``conditions`` say."""
    query = _select().where(records.c.seq > after, *conditions).order_by(records.c.seq).limit(limit + 1)
    return _page(((seq, event) for seq, event in _events(connection.execute(query)) if seq > after), limit)


def trace(
    connection: Connection, wanted: Mapping[str, Sequence[int]], period: tuple[int, int], numbers: tuple[int, int],
    limit: int,
) -> UsagePage:  # fmt: skip
    """List the events of ``wanted`` (meter -> ids of series), in a period, within these numbers (first and last)."""
    first, last = numbers
    names = {row.id: meters_of(row.names) for row in connection.execute(select(meters))}
    having = {meter: [number for number, of in names.items() if meter in of] for meter in wanted}
    conditions = [records.c.series_id.in_(ids) & records.c.meters_id.in_(having[m]) for m, ids in wanted.items()]
    query = (
        _select()
        .add_columns(records.c.series_id)
        .where(or_(*conditions), *_between(first, last), records.c.at.between(period[0], period[1] - 1))
        .order_by(records.c.seq)
        .limit(limit + 2)  # of the first row all that is wanted may come before the first number
    )
    of = {(meter, series_id) for meter, ids in wanted.items() for series_id in ids}
    found = (
        (seq, event)
        for row in connection.execute(query)
        for seq, event in _events([row])
        if first <= seq <= last and (event.meter, row.series_id) in of
    )
    return _page(found, limit)


def summed(
    connection: Connection, of: Sequence[int], period: tuple[int, int], numbers: tuple[int, int]
) -> list[UsageRow]:
    """Add up by hour what these series used in a period; their events lie within ``numbers``."""
    hour = (records.c.at - records.c.at % literal_column(str(HOUR_US))).label("hour")
    of_version = (series.c.endpoint, series.c.version, series.c.digest)
    query = (
        select(*of_version, hour, records.c.seq, meters.c.names, records.c.quantities)
        .select_from(_joined())
        .where(*_between(*numbers), records.c.series_id.in_(of), records.c.at.between(period[0], period[1] - 1))
        .execution_options(yield_per=_READ_AT_ONCE)
    )
    sums: dict[tuple[str, int, str, str, int], int] = defaultdict(int)
    with connection.execute(query) as rows:
        for endpoint, version, digest, at, seq, names, quantities in rows:
            for _, meter, quantity in told(seq, names, quantities):
                sums[endpoint, version, digest, meter, at] += quantity
    return sorted(UsageRow(*key, quantity) for key, quantity in sums.items())


def _joined() -> Any:
    return records.join(series).join(meters)


def _select() -> Select[Any]:
    return select(*_COLUMNS, *(series.c[name] for name in _OF_SERIES)).select_from(_joined())


def _between(first: int, last: int) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of rows with events of these numbers: the last of them may hold later ones too."""
    ends = select(func.min(records.c.seq)).where(records.c.seq >= last).scalar_subquery()
    return records.c.seq >= first, records.c.seq <= func.coalesce(ends, last)


def _events(rows: Iterable[Row[Any]]) -> Iterator[tuple[int, UsageEvent]]:
    for row in rows:
        shared = {name: getattr(row, name) for name in ("request_id", "at", *_OF_SERIES)}
        for seq, meter, quantity in told(row.seq, row.names, row.quantities):
            event_id = f"{row.request_id}:{row.attempt}:{meter}"
            yield seq, UsageEvent(event_id=event_id, meter=meter, quantity=quantity, **shared)


def _page(found: Iterable[tuple[int, UsageEvent]], limit: int) -> UsagePage:
    first = list(islice(found, limit + 1))
    more = len(first) > limit
    return UsagePage([event for _, event in first[:limit]], first[limit - 1][0] if more else None)


def _meters_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Return the id of each list of meters, making those that are new."""
    query = select(meters).where(meters.c.names.in_(names))
    ids = {row.names: row.id for row in connection.execute(query)}
    if missing := sorted({*names} - ids.keys()):
        connection.execute(insert(meters), [{"names": each} for each in missing])
        ids = {row.names: row.id for row in connection.execute(query)}
    return ids


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.paramstyle == "qmark" else "%s"
