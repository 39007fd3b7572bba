"""Keep a row for each record of usage, instead of one for each of its meters"""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_AT_ONCE = 20_000
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go to this revision. What events of one answer stood beside one another becomes a row, in their order."""
    op.create_table(
        "usage_meters",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("names", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_meters")),
        sa.UniqueConstraint("names", name=op.f("uq_usage_meters_names")),
    )
    records = op.create_table(
        "usage_records",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("series_id", _SERIAL, nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("meters_id", _SERIAL, nullable=False),
        sa.Column("quantities", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["meters_id"], ["usage_meters.id"], name=op.f("fk_usage_records_meters_id")),
        sa.ForeignKeyConstraint(["series_id"], ["usage_series.id"], name=op.f("fk_usage_records_series_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usage_records")),
        sa.UniqueConstraint("request_id", "attempt", "meters_id", name=op.f("uq_usage_records_request_id")),
    )
    connection = op.get_bind()
    meters: dict[str, int] = {}
    rows = []
    for (series_id, request_id, attempt, at), group in groupby(_events(connection), key=lambda event: event[1:5]):
        events = list(group)
        names = _written([event[5] for event in events])
        if names not in meters:
            connection.execute(sa.text("INSERT INTO usage_meters (names) VALUES (:names)"), {"names": names})
            found = sa.text("SELECT id FROM usage_meters WHERE names = :names")
            meters[names] = connection.execute(found, {"names": names}).scalar_one()
        row = {"seq": events[-1][0], "series_id": series_id, "request_id": request_id, "attempt": attempt, "at": at}
        rows.append(row | {"meters_id": meters[names], "quantities": _written([event[6] for event in events])})
        if len(rows) == _AT_ONCE:
            connection.execute(records.insert(), rows)
            rows = []
    if rows:
        connection.execute(records.insert(), rows)
    op.drop_table("usage_events")


def downgrade() -> None:
    """Go back to the one before."""
    events = op.create_table(
        "usage_events",
        sa.Column("seq", _SERIAL, autoincrement=False, nullable=False),
        sa.Column("series_id", _SERIAL, nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("meter", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["usage_series.id"], name=op.f("fk_usage_events_series_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usage_events")),
        sa.UniqueConstraint("request_id", "attempt", "meter", name=op.f("uq_usage_events_request_id")),
    )
    connection = op.get_bind()
    query = (
        "SELECT seq, series_id, request_id, attempt, at, names, quantities FROM usage_records"
        " JOIN usage_meters ON usage_meters.id = meters_id WHERE seq > :after ORDER BY seq LIMIT :limit"
    )
    for page in _pages(connection, query):
        rows = []
        for seq, series_id, request_id, attempt, at, names, quantities in page:
            counted = list(zip(json.loads(names), json.loads(quantities), strict=True))
            for number, (meter, quantity) in enumerate(counted, seq - len(counted) + 1):
                row = {"seq": number, "series_id": series_id, "request_id": request_id, "attempt": attempt, "at": at}
                rows.append(row | {"meter": meter, "quantity": quantity})
        connection.execute(events.insert(), rows)
    op.drop_table("usage_records")
    op.drop_table("usage_meters")


def _events(connection: sa.Connection) -> Iterator[Any]:
    query = (
        "SELECT seq, series_id, request_id, attempt, at, meter, quantity FROM usage_events"
        " WHERE seq > :after ORDER BY seq LIMIT :limit"
    )
    for page in _pages(connection, query):
        yield from page


def _pages(connection: sa.Connection, query: str) -> Iterator[list[Any]]:
    after = 0
    while page := connection.execute(sa.text(query), {"after": after, "limit": _AT_ONCE}).all():
        yield list(page)
        after = page[-1][0]


def _written(values: list[str] | list[int]) -> str:
    return json.dumps(values, separators=(",", ":"))
