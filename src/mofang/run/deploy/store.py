"""The tables of deployment: endpoints, their revisions and rollouts. Only :class:`DeploymentStore` touches them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from mofang.base.domain.access import EVERYTHING, Scope
from mofang.base.domain.deployment import (
    ROLLOUT_ENDED,
    Audience,
    Calibration,
    Endpoint,
    Revision,
    Rollout,
    RolloutState,
)
from mofang.base.domain.errors import (
    EndpointNotFound,
    NameTaken,
    RevisionNotFound,
    RolloutInProgress,
    RolloutNotFound,
)
from mofang.base.domain.names import new_id, now_us
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, owned, owner, owns, visible

endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("active_revision", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("deleted_at", sa.BigInteger),  # the row stays, so that revision numbers are never used twice
)
revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("document", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)
audiences = sa.Table(
    "audiences",
    metadata,
    sa.Column("endpoint", sa.String(63), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # everyone, tenant or project
    sa.Column("name", sa.String(63), primary_key=True),  # of the tenant or project
)
rollouts = sa.Table(
    "rollouts",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(63), nullable=False, index=True),
    sa.Column("from_revision", sa.Integer, nullable=False),
    sa.Column("to_revision", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("is_rollback", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Desired:
    """What ought to run: endpoints, the revisions that matter now, and the rollouts that have not ended."""

    endpoints: tuple[Endpoint, ...]
    revisions: dict[str, Revision]  # by Revision.key
    rollouts: tuple[Rollout, ...]
    owners: dict[str, Scope] = field(default_factory=dict)  # by the endpoint's name
    audiences: dict[str, Audience] = field(default_factory=dict)

    def sharing(self, endpoint: str) -> tuple[Scope, Audience]:
        """Return to whom an endpoint belongs, and who else may ask it."""
        return self.owners.get(endpoint, EVERYTHING), self.audiences.get(endpoint, Audience(everyone=False))


class DeploymentStore:
    """Reads and writes the desired state."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def desired(self) -> Desired:
        """Return the whole desired state, read in one transaction."""
        with self._database.read() as tx:
            rows = tx.execute(sa.select(endpoints).where(endpoints.c.deleted_at.is_(None))).mappings()
            found = tuple(_endpoint(row) for row in rows)
            open_ones = sa.select(rollouts).where(rollouts.c.state.not_in(ROLLOUT_ENDED)).order_by(rollouts.c.id)
            moving = tuple(Rollout(**row) for row in tx.execute(open_ones).mappings())
            needed = {revision.key: revision for revision in _active_revisions(tx, endpoints.c.deleted_at.is_(None))}
            wanted = {(e.name, e.active_revision) for e in found if e.active_revision}
            for rollout in moving:
                wanted |= {(rollout.endpoint, n) for n in (rollout.from_revision, rollout.to_revision) if n}
            for endpoint, number in sorted(wanted):
                if (key := f"{endpoint}/{number}") not in needed:
                    needed[key] = _revision_row(tx, endpoint, number)
            scopes, shared = owned(tx, "endpoint"), _audiences(tx)
        names = [endpoint.name for endpoint in found]
        return Desired(
            found,
            needed,
            moving,
            {name: scopes[name] for name in names if name in scopes},
            {name: shared.get(name, Audience(everyone=False)) for name in names},
        )

    def list_endpoints(self) -> list[Endpoint]:
        """Return the endpoints by name."""
        query = sa.select(endpoints).where(endpoints.c.deleted_at.is_(None), self._visible(endpoints.c.name))
        with self._database.read() as tx:
            return [_endpoint(row) for row in tx.execute(query.order_by(endpoints.c.name)).mappings()]

    def get_endpoint(self, name: str) -> Endpoint:
        """Return an endpoint, or raise EndpointNotFound."""
        with self._database.read() as tx:
            return self._live(tx, name)

    def audience(self, endpoint: str) -> Audience:
        """Return who may ask an endpoint, or raise EndpointNotFound."""
        with self._database.read() as tx:
            self._live(tx, endpoint)
            return _audience(tx, endpoint)

    def share(self, endpoint: str, audience: Audience) -> None:
        """Put ``audience`` in the place of the one an endpoint had, or raise EndpointNotFound."""
        with self._database.write() as tx:
            self._live(tx, endpoint)
            _share(tx, endpoint, audience)

    def revisions(self, endpoint: str) -> list[Revision]:
        """Return the revisions of an endpoint, newest first."""
        query = sa.select(revisions.c.document).where(
            revisions.c.endpoint == endpoint, self._visible(revisions.c.endpoint)
        )
        with self._database.read() as tx:
            documents = tx.scalars(query.order_by(revisions.c.number.desc()))
            return [msgspec.convert(document, Revision) for document in documents]

    def rollouts(self, endpoint: str) -> list[Rollout]:
        """Return the rollouts of an endpoint, newest first."""
        query = sa.select(rollouts).where(rollouts.c.endpoint == endpoint, self._visible(rollouts.c.endpoint))
        with self._database.read() as tx:
            return [Rollout(**row) for row in tx.execute(query.order_by(rollouts.c.id.desc())).mappings()]

    def standing(self, names: Collection[str]) -> tuple[dict[str, Revision], dict[str, Rollout]]:
        """Return the active revision and the newest rollout of each of these endpoints that has one, by its name."""
        seen = self._visible(endpoints.c.name)
        with self._database.read() as tx:
            active = {each.endpoint: each for each in _active_revisions(tx, endpoints.c.name.in_(names), seen)}
            newest = sa.select(sa.func.max(rollouts.c.id)).where(rollouts.c.endpoint.in_(names))
            query = sa.select(rollouts).where(rollouts.c.id.in_(newest.group_by(rollouts.c.endpoint)))
            rows = tx.execute(query.where(self._visible(rollouts.c.endpoint))).mappings()
            return active, {row["endpoint"]: Rollout(**row) for row in rows}

    def get_rollout(self, rollout_id: str) -> Rollout:
        """Return a rollout, or raise RolloutNotFound."""
        with self._database.read() as tx:
            query = sa.select(rollouts).where(rollouts.c.id == rollout_id, self._visible(rollouts.c.endpoint))
            row = tx.execute(query).mappings().first()
        if row is None:
            raise RolloutNotFound(f"there is no rollout {rollout_id!r}")
        return Rollout(**row)

    def add_revision(self, revision: Revision, audience: Audience | None = None) -> Revision:
        """Store ``revision`` under the endpoint's next number, making the endpoint if it is new; return it numbered.

        A new endpoint belongs to the project of its model, and is for ``audience``, or for everyone. Raises NameTaken.
        """
        name = revision.endpoint
        with self._database.write() as tx:
            self._make_endpoint(tx, revision, audience or Audience())
            last = tx.scalar(sa.select(sa.func.max(revisions.c.number)).where(revisions.c.endpoint == name))
            numbered = replace(revision, number=(last or 0) + 1, created_at=now_us())
            tx.execute(
                revisions.insert().values(
                    endpoint=name,
                    number=numbered.number,
                    digest=numbered.digest,
                    document=msgspec.to_builtins(numbered),
                    created_at=numbered.created_at,
                )
            )
        return numbered

    def record_calibration(self, revision: Revision, found: Calibration) -> None:
        """Write down what the first load of a revision has measured."""
        document = msgspec.to_builtins(replace(revision, calibration=found))
        this = (revisions.c.endpoint == revision.endpoint) & (revisions.c.number == revision.number)
        with self._database.write() as tx:
            tx.execute(revisions.update().where(this).values(document=document))

    def add_rollout(self, endpoint: str, to_revision: int, *, is_rollback: bool) -> Rollout:
        """Store a rollout to a revision; raise RolloutInProgress or RevisionNotFound."""
        with self._database.write() as tx:
            current = self._live(tx, endpoint)
            _revision_row(tx, endpoint, to_revision)
            busy = sa.select(rollouts.c.id).where(
                rollouts.c.endpoint == endpoint, rollouts.c.state.not_in(ROLLOUT_ENDED)
            )
            if (other := tx.scalar(busy)) is not None:
                raise RolloutInProgress(f"endpoint {endpoint!r} is in the middle of rollout {other!r}")
            rollout = Rollout(
                id=new_id("roll"),
                endpoint=endpoint,
                from_revision=current.active_revision,
                to_revision=to_revision,
                state="pending",
                is_rollback=is_rollback,
                created_at=now_us(),
            )
            tx.execute(rollouts.insert().values(**_columns(rollout)))
        return rollout

    def move_rollout(self, rollout_id: str, state: RolloutState, reason: str = "") -> None:
        """Write a rollout's state; ``draining`` is the switch: it makes the new revision the active one."""
        ended_at = now_us() if state in ROLLOUT_ENDED else 0
        with self._database.write() as tx:
            change = rollouts.update().where(rollouts.c.id == rollout_id)
            tx.execute(change.values(state=state, reason=reason, ended_at=ended_at))
            if state == "draining":
                row = tx.execute(sa.select(rollouts).where(rollouts.c.id == rollout_id)).mappings().one()
                switch = endpoints.update().where(endpoints.c.name == row["endpoint"])
                tx.execute(switch.values(active_revision=row["to_revision"]))

    def delete_endpoint(self, name: str) -> Endpoint:
        """Take an endpoint out of service; raise RolloutInProgress while one is going on."""
        with self._database.write() as tx:
            found = self._live(tx, name)
            busy = sa.select(rollouts.c.id).where(rollouts.c.endpoint == name, rollouts.c.state.not_in(ROLLOUT_ENDED))
            if tx.scalar(busy) is not None:
                raise RolloutInProgress(f"endpoint {name!r} is in the middle of a rollout")
            gone = endpoints.update().where(endpoints.c.name == name)
            tx.execute(gone.values(deleted_at=now_us(), active_revision=0))
        return found

    def _make_endpoint(self, tx: Connection, revision: Revision, audience: Audience) -> None:
        name, scope = revision.endpoint, self._database.scope
        row = tx.execute(sa.select(endpoints).where(endpoints.c.name == name)).mappings().first()
        if row is None:
            tx.execute(endpoints.insert().values(name=name, active_revision=0, created_at=now_us()))
            claim(tx, owner(tx, "model", revision.model) or scope, "endpoint", name)
            _share(tx, name, audience)
        elif not owns(tx, scope, "endpoint", name):
            raise NameTaken(f"the name {name!r} is taken by an endpoint of another project")
        elif row["deleted_at"] is not None:
            again = endpoints.update().where(endpoints.c.name == name)
            tx.execute(again.values(deleted_at=None, active_revision=0, created_at=now_us()))
            _share(tx, name, audience)

    def _live(self, tx: Connection, name: str) -> Endpoint:
        query = sa.select(endpoints).where(endpoints.c.name == name, endpoints.c.deleted_at.is_(None))
        row = tx.execute(query.where(self._visible(endpoints.c.name))).mappings().first()
        if row is None:
            raise EndpointNotFound(f"there is no endpoint {name!r}")
        return _endpoint(row)

    def _visible(self, column: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        return visible(self._database.scope, "endpoint", column)


def _audience(tx: Connection, endpoint: str) -> Audience:
    return _audiences(tx, audiences.c.endpoint == endpoint).get(endpoint, Audience(everyone=False))


def _audiences(tx: Connection, *where: sa.ColumnElement[bool]) -> dict[str, Audience]:
    named: dict[str, dict[str, list[str]]] = {}
    for row in tx.execute(sa.select(audiences).where(*where).order_by(audiences.c.name)):
        named.setdefault(row.endpoint, {}).setdefault(row.kind, []).append(row.name)
    return {
        endpoint: Audience("everyone" in kinds, tuple(kinds.get("tenant", ())), tuple(kinds.get("project", ())))
        for endpoint, kinds in named.items()
    }


def _share(tx: Connection, endpoint: str, audience: Audience) -> None:
    tx.execute(audiences.delete().where(audiences.c.endpoint == endpoint))
    named = [("everyone", "")] if audience.everyone else []
    named += [("tenant", name) for name in set(audience.tenants)]
    named += [("project", name) for name in set(audience.projects)]
    if named:
        tx.execute(audiences.insert(), [{"endpoint": endpoint, "kind": kind, "name": name} for kind, name in named])


def _active_revisions(tx: Connection, *where: sa.ColumnElement[bool]) -> list[Revision]:
    serves = (revisions.c.endpoint == endpoints.c.name) & (revisions.c.number == endpoints.c.active_revision)
    query = sa.select(revisions.c.document).join(endpoints, serves).where(*where)
    return msgspec.convert([*tx.scalars(query.order_by(endpoints.c.name))], list[Revision])


def _revision_row(tx: Connection, endpoint: str, number: int) -> Revision:
    query = sa.select(revisions.c.document).where(revisions.c.endpoint == endpoint, revisions.c.number == number)
    document = tx.scalar(query)
    if document is None:
        raise RevisionNotFound(f"endpoint {endpoint!r} has no revision {number}")
    return msgspec.convert(document, Revision)


def _endpoint(row: RowMapping) -> Endpoint:
    return Endpoint(row["name"], row["active_revision"], row["created_at"])


def _columns(rollout: Rollout) -> dict[str, Any]:
    columns: dict[str, Any] = msgspec.to_builtins(rollout)
    return columns
