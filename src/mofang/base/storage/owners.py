"""What belongs to whom: one table for every kind of thing, and the clause that hides what is out of reach.

Stores of all wings use it: they :func:`claim` what they insert and put :func:`visible` into what they select, with the
scope the database is used in (:meth:`Database.acting`). A thing that is content-addressed may belong to several
projects, who know nothing of each other; everything else belongs to one.
"""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Connection, Index, String, Table, insert, select, true

from mofang.base.domain.access import Scope
from mofang.base.storage.database import Database, metadata

Kind = Literal["model", "endpoint", "run", "evaluation", "variant", "job", "upload", "file"]

owners = Table(
    "owners",
    metadata,
    Column("kind", String(16), primary_key=True),
    Column("id", String(100), primary_key=True),
    Column("project", String(63), primary_key=True),
    Column("tenant", String(63), nullable=False),
    Index("ix_owners_project", "project", "kind"),
)


def visible(scope: Scope, kind: Kind, column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that the thing whose id is in ``column`` belongs to somebody within ``scope``."""
    if scope.reach == "platform":
        return true()
    found = select(owners.c.id).where(owners.c.kind == kind, owners.c.id == column, _reached(scope))
    return found.exists()


def claim(connection: Connection, scope: Scope, kind: Kind, name: str) -> None:
    """Write down that the project of ``scope`` owns the thing; it may own it already."""
    row = {"kind": kind, "id": name, "project": scope.project, "tenant": scope.tenant}
    known = select(owners.c.id).where(*(owners.c[column] == row[column] for column in ("kind", "id", "project")))
    if connection.execute(known).first() is None:
        connection.execute(insert(owners).values(row))


def owner(connection: Connection, kind: Kind, name: str) -> Scope | None:
    """Return the project that owns the thing, if one does."""
    query = select(owners.c.tenant, owners.c.project).where(owners.c.kind == kind, owners.c.id == name)
    row = connection.execute(query.order_by(owners.c.project)).first()
    return Scope(row.tenant, row.project) if row else None


def owned(connection: Connection, kind: Kind) -> dict[str, Scope]:
    """Return for every thing of a kind the project that owns it, as :func:`owner` does for one."""
    query = select(owners.c.id, owners.c.tenant, owners.c.project).where(owners.c.kind == kind)
    rows = connection.execute(query.order_by(owners.c.project.desc()))
    return {row.id: Scope(row.tenant, row.project) for row in rows}


def owns(connection: Connection, scope: Scope, kind: Kind, name: str) -> bool:
    """Tell whether the thing belongs to somebody within ``scope``."""
    if scope.reach == "platform":
        return True
    query = select(owners.c.id).where(owners.c.kind == kind, owners.c.id == name, _reached(scope))
    return connection.execute(query).first() is not None


class Owners:
    """Owners of things: who they are, and those of what is kept in no table of its own (uploads)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, kind: Kind, name: str) -> None:
        """Write down that the thing belongs to whoever uses the database now."""
        with self._database.write() as connection:
            claim(connection, self._database.scope, kind, name)

    def of(self, kind: Kind, name: str) -> list[Scope]:
        """Return the projects that own the thing, whoever asks."""
        query = select(owners.c.tenant, owners.c.project).where(owners.c.kind == kind, owners.c.id == name)
        with self._database.read() as connection:
            return [Scope(*row) for row in connection.execute(query.order_by(owners.c.project))]

    def has(self, kind: Kind, name: str) -> bool:
        """Tell whether the thing is within reach of whoever uses the database now."""
        with self._database.read() as connection:
            return owns(connection, self._database.scope, kind, name)


def _reached(scope: Scope) -> ColumnElement[bool]:
    if scope.reach == "tenant":
        return owners.c.tenant == scope.tenant
    return owners.c.project == scope.project
