"""The audit log as tables: the chain, and its head in a row of its own.

Every control action appends here inside the transaction that makes the change, so that neither is there without the
other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, Table, Text, insert, select, update

from mofang.base.audit.chain import GENESIS, AuditRecord, VerifyReport, seal, verify
from mofang.base.domain.errors import AuditBroken
from mofang.base.domain.names import now_us
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.database import Database, metadata

_PAGE = 1000
_BEFORE_ALL = -1 << 62  # pages begin there, to see also what someone put before the first record

audit_records = Table(
    "audit_records",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),  # canonical JSON
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
)
audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)


class AuditStore:
    """Appends to the log, pages through it, and verifies it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, actor: str, action: str, target: str, details: dict[str, Any] | None = None) -> AuditRecord:
        """Append a record; inside a ``write()`` of the caller it is committed with what it tells of.

        ``details`` is plain JSON and holds no secret: everyone with the permission ``audit`` can read it.
        """
        with self._database.write() as connection:
            head = _head(connection)
            if head.records == 0 and _page(connection, _BEFORE_ALL, 1):
                raise AuditBroken("the head of the audit log was removed: nothing can be appended to it")
            text = canonical_json(details or {}).decode("ascii")
            record = seal(head.records + 1, now_us(), actor, action, target, json.loads(text), head.head)
            row = {"seq": record.seq, "at": record.at, "actor": actor, "action": action, "target": target}
            row |= {"details": text, "previous": record.previous, "hash": record.hash}
            connection.execute(insert(audit_records).values(**row))
            if head.records == 0:
                connection.execute(insert(audit_head).values(id=1, seq=record.seq, hash=record.hash))
            else:
                connection.execute(update(audit_head).values(seq=record.seq, hash=record.hash))
        return record

    def list(self, after: int = 0, limit: int = 100) -> Sequence[AuditRecord]:
        """Return up to ``limit`` records with a seq above ``after``, oldest first."""
        with self._database.read() as connection:
            return _page(connection, after, limit)

    def verify(self) -> VerifyReport:
        """Check the whole log; raise AuditBroken, which names the first record that is not as it was written."""
        with self._database.read() as connection:
            return verify(_all(connection), _head(connection))


def _head(connection: Connection) -> VerifyReport:
    row = connection.execute(select(audit_head.c.seq, audit_head.c.hash)).one_or_none()
    return VerifyReport(row.seq, row.hash) if row is not None else VerifyReport(0, GENESIS)


def _all(connection: Connection) -> Iterator[AuditRecord]:
    after = _BEFORE_ALL
    while page := _page(connection, after, _PAGE):
        yield from page
        after = page[-1].seq


def _page(connection: Connection, after: int, limit: int) -> Sequence[AuditRecord]:
    query = select(audit_records).where(audit_records.c.seq > after).order_by(audit_records.c.seq).limit(limit)
    return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> AuditRecord:
    try:
        details = json.loads(row.details)
    except ValueError as error:
        raise AuditBroken(f"audit record {row.seq} was changed: its details cannot be read") from error
    return AuditRecord(row.seq, row.at, row.actor, row.action, row.target, details, row.previous, row.hash)
