"""Whom audit records concern: a project, or a tenant as a whole. Who looks after the platform sees every record.

The names are told in the record itself, under its hash; by this table the store of the audit log finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Index, String, Table, insert, select, true

from mofang.base.domain.access import Scope
from mofang.base.storage.database import metadata

audit_concerns = Table(
    "audit_concerns",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", String(63), primary_key=True),
    Column("project", String(63), primary_key=True),  # empty: the tenant as a whole
    Index("ix_audit_concerns_tenant", "tenant", "project", "seq"),
)


def names_of(of: Iterable[Scope]) -> list[str]:
    """Return what a record tells of whom it concerns: ``TENANT``, or ``TENANT/PROJECT``."""
    return sorted({f"{it.tenant}/{it.project}" if it.project else it.tenant for it in of})


def note_concerns(connection: Connection, seq: int, of: Sequence[Scope]) -> None:
    """Write down whom record ``seq`` concerns."""
    places = sorted({(it.tenant, it.project) for it in of})
    if places:
        rows = [{"seq": seq, "tenant": tenant, "project": project} for tenant, project in places]
        connection.execute(insert(audit_concerns), rows)


def concerned(connection: Connection, first: int, last: int) -> dict[int, list[str]]:
    """Return whom the records ``first`` to ``last`` concern, as :func:`names_of` tells it, by number."""
    query = select(audit_concerns).where(audit_concerns.c.seq.between(first, last))
    found: dict[int, list[Scope]] = {}
    for row in connection.execute(query):
        found.setdefault(row.seq, []).append(Scope(row.tenant, row.project))
    return {seq: names_of(of) for seq, of in found.items()}


def concerning(scope: Scope, seq: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that the record whose number is in ``seq`` concerns somebody within ``scope``."""
    if scope.reach == "platform":
        return true()
    query = select(audit_concerns.c.seq).where(audit_concerns.c.tenant == scope.tenant)
    if scope.reach == "project":
        query = query.where(audit_concerns.c.project == scope.project)
    return seq.in_(query)
