"""Tenants (who pay), projects (who use), their keys, and the limits of each, as tables.

The control plane creates and revokes here; gateways get what they need of it, KeyEntry and AccessLimits, through the
Snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any, cast, get_args

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    ForeignKey,
    Integer,
    Row,
    Select,
    Table,
    Text,
    delete,
    insert,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError

from mofang.base.domain.access import (
    DEFAULT_PROJECT,
    DEFAULT_TENANT,
    WIDTH,
    AccessLimits,
    ApiKey,
    KeyEntry,
    LimitScope,
    Permission,
    Project,
    Reach,
    Role,
    Scope,
    Tenant,
)
from mofang.base.domain.errors import (
    InvalidRequest,
    KeyEnded,
    KeyNotFound,
    ProjectExists,
    ProjectNotFound,
    TenantExists,
    TenantNotFound,
)
from mofang.base.domain.names import check_name, now_us
from mofang.base.identity.addresses import check_network
from mofang.base.identity.keys import new_key
from mofang.base.storage.database import Database, metadata

PLATFORM_PROJECT = "platform"
_SESSION_KEPT_US = 30 * 86_400_000_000  # after its end
USUAL_WEIGHT = 100

tenants = Table(
    "tenants",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
projects = Table(
    "projects",
    metadata,
    Column("name", Text, primary_key=True),
    Column("tenant", Text, ForeignKey("tenants.name"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("project", Text, ForeignKey("projects.name"), nullable=False, index=True),
    Column("role", Text, nullable=False),
    Column("endpoints", Text, nullable=False),  # names with commas between them; empty: every endpoint
    Column("secret_sha256", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("reach", Text, nullable=False, server_default="project"),
    Column("verbs", Text),  # with commas between them; null: all of its role
    Column("networks", Text),  # the same; null: from anywhere
    Column("user_name", Text),  # who signed in; null: a key
)
access_limits = Table(
    "access_limits",
    metadata,
    Column("scope", Text, primary_key=True),  # key, project or tenant
    Column("name", Text, primary_key=True),
    Column("requests_per_minute", BigInteger),
    Column("rows_per_minute", BigInteger),
    Column("concurrency", BigInteger),
    Column("payload_bytes", BigInteger),
    Column("tokens_per_minute", BigInteger),
)

tenant_weights = Table(
    "tenant_weights",
    metadata,
    Column("tenant", Text, ForeignKey("tenants.name"), primary_key=True),
    Column("weight", Integer, nullable=False),  # percent of the usual share
)
_WORDS = {"role": get_args(Role), "reach": get_args(Reach), "verb": get_args(Permission)}


class IdentityStore:
    """Who there is, and with which keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_tenant(self, name: str) -> Tenant:
        """Create a tenant; raise TenantExists if there is one of that name."""
        tenant = Tenant(check_name("tenant", name), now_us())
        try:
            with self._database.write() as connection:
                connection.execute(insert(tenants).values(name=tenant.name, created_at=tenant.created_at))
        except IntegrityError as error:
            raise TenantExists(f"tenant {name!r} exists already") from error
        return tenant

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by name."""
        scope = self._database.scope
        mine = true() if scope.reach == "platform" else tenants.c.name == scope.tenant
        with self._database.read() as connection:
            return [Tenant(*row) for row in connection.execute(select(tenants).where(mine).order_by(tenants.c.name))]

    def get_tenant(self, name: str) -> Tenant:
        """Return the tenant; raise TenantNotFound."""
        found = next((tenant for tenant in self.list_tenants() if tenant.name == name), None)
        if found is None:
            raise TenantNotFound(f"there is no tenant {name!r}")
        return found

    def create_project(self, name: str, tenant: str = DEFAULT_TENANT) -> Project:
        """Create a project of ``tenant``; raise TenantNotFound or ProjectExists."""
        project = Project(check_name("project", name), tenant, now_us())
        with self._database.write() as connection:
            self.get_tenant(tenant)
            if connection.scalar(select(projects.c.name).where(projects.c.name == name)) is not None:
                raise ProjectExists(f"project {name!r} exists already")
            connection.execute(insert(projects).values(name=name, tenant=tenant, created_at=project.created_at))
        return project

    def get_project(self, name: str) -> Project:
        """Return the project; raise ProjectNotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.name == name, self._reached())).one_or_none()
        if row is None:
            raise ProjectNotFound(f"there is no project {name!r}")
        return Project(*row)

    def list_projects(self) -> list[Project]:
        """Return all projects by name."""
        query = select(projects).where(self._reached()).order_by(projects.c.name)
        with self._database.read() as connection:
            return [Project(*row) for row in connection.execute(query)]

    def create_key(
        self,
        project: str,
        role: Role = "consumer",
        name: str = "",
        expires_at: int | None = None,
        endpoints: Iterable[str] = (),
        reach: Reach = "project",
        verbs: Iterable[Permission] = (),
        networks: Iterable[str] = (),
        user: str = "",
    ) -> tuple[ApiKey, str]:
        """Create a key and return it with its text, which nobody can ever show again; raise ProjectNotFound.

        It may ask ``endpoints``, whether they exist yet or not; use ``verbs`` of what its role allows; and come from
        ``networks`` (CIDR). Where none is named, all are meant. With a ``user`` it is a session of hers.
        """
        for kind, word in (("role", role), ("reach", reach), *(("verb", verb) for verb in verbs)):
            if word not in (known := _WORDS[kind]):
                raise InvalidRequest(f"{word!r} is no {kind}", hint=f"{kind}s are {', '.join(known)}")
        scope = tuple(sorted({check_name("endpoint", endpoint) for endpoint in endpoints}))
        new, created_at = new_key(), now_us()
        allowed, ranges = tuple(sorted(set(verbs))), tuple(map(check_network, networks))
        row: dict[str, Any] = {"id": new.id, "name": name, "project": project, "role": role}
        row |= {"secret_sha256": new.secret_sha256, "created_at": created_at, "expires_at": expires_at}
        row |= {"endpoints": ",".join(scope), "verbs": ",".join(allowed) or None}
        row |= {"networks": ",".join(ranges) or None, "reach": reach, "user_name": user or None}
        with self._database.write() as connection:
            tenant = self.get_project(project).tenant
            if user:
                ended = api_keys.c.user_name.is_not(None) & (api_keys.c.expires_at < created_at - _SESSION_KEPT_US)
                connection.execute(delete(api_keys).where(ended))  # the audit log tells of them
            connection.execute(insert(api_keys).values(**row))
        key = ApiKey(
            new.id, name, project, tenant, role, created_at, expires_at, None, scope, None, reach, allowed, ranges
        )
        return key, new.text

    def rotate_key(self, key_id: str, overlap_us: int) -> tuple[ApiKey, str]:
        """Create a key that may do what ``key_id`` may, and let that one expire after ``overlap_us``.

        The new key has the limits of the old one, and as long a life. Raises KeyNotFound, or KeyEnded.
        """
        now = now_us()
        with self._database.write() as connection:
            old = self.get_key(key_id)
            if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
                raise KeyEnded(f"key {key_id!r} was revoked or has expired")
            expires_at = None if old.expires_at is None else now + old.expires_at - old.created_at
            new, text = self.create_key(
                old.project, old.role, old.name, expires_at, old.endpoints, old.reach, old.verbs, old.networks
            )
            end = now + overlap_us if old.expires_at is None else min(old.expires_at, now + overlap_us)
            connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(expires_at=end))
            for limits in self.list_limits():
                if (limits.scope, limits.name) == ("key", key_id):
                    self.set_limits(replace(limits, name=new.id))
        return new, text

    def list_keys(self, project: str | None = None) -> list[ApiKey]:
        """Return all keys, or those of ``project``, oldest first; revoked ones as well."""
        query = self._select_keys().order_by(api_keys.c.created_at, api_keys.c.id)
        if project is not None:
            query = query.where(api_keys.c.project == project)
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(query)]

    def get_key(self, key_id: str) -> ApiKey:
        """Return the key; raise KeyNotFound."""
        with self._database.read() as connection:
            row = connection.execute(self._select_keys().where(api_keys.c.id == key_id)).one_or_none()
        if row is None:
            raise KeyNotFound(f"there is no key {key_id!r}")
        return _key(row)

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke the key for good, once; raise KeyNotFound."""
        with self._database.write() as connection:
            which = (api_keys.c.id == key_id) & api_keys.c.revoked_at.is_(None)
            connection.execute(update(api_keys).where(which).values(revoked_at=now_us()))
            return self.get_key(key_id)

    def erase_name(self, name: str) -> None:
        """Remove the sessions of a user, and that name from keys that are called so."""
        with self._database.write() as connection:
            connection.execute(delete(api_keys).where(api_keys.c.user_name == name))
            connection.execute(update(api_keys).where(api_keys.c.name == name).values(name=""))

    def revoke_sessions(self, user: str) -> None:
        """Revoke everything a user is signed in with."""
        which = (api_keys.c.user_name == user) & api_keys.c.revoked_at.is_(None)
        with self._database.write() as connection:
            connection.execute(update(api_keys).where(which).values(revoked_at=now_us()))

    def end_session(self, key_id: str) -> None:
        """Revoke one session."""
        which = (api_keys.c.id == key_id) & api_keys.c.user_name.is_not(None)
        with self._database.write() as connection:
            connection.execute(update(api_keys).where(which).values(revoked_at=now_us()))

    def entries(self) -> dict[str, KeyEntry]:
        """Return what gateways need, by id, of every key that is not revoked and every session that has not ended."""
        lives = api_keys.c.user_name.is_(None) | (api_keys.c.expires_at > now_us())
        query = select(api_keys, projects.c.tenant).join(projects).where(api_keys.c.revoked_at.is_(None), lives)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {
            row.id: KeyEntry(
                row.id,
                row.secret_sha256,
                row.tenant,
                row.project,
                cast(Role, row.role),
                row.expires_at,
                _words(row.endpoints),
                cast(Reach, row.reach),
                cast("tuple[Permission, ...]", _words(row.verbs)),
                _words(row.networks),
                row.user_name or "",
            )
            for row in rows
        }

    def set_limits(self, limits: AccessLimits) -> AccessLimits:
        """Put ``limits`` in the place of those the key, project or tenant had; raise if there is none of that name."""
        row = asdict(limits)
        with self._database.write() as connection:
            self.check_scope(limits.scope, limits.name)
            which = (access_limits.c.scope == limits.scope) & (access_limits.c.name == limits.name)
            connection.execute(delete(access_limits).where(which))
            if any(row[bound] is not None for bound in row.keys() - {"scope", "name"}):
                connection.execute(insert(access_limits).values(**row))
        return limits

    def list_limits(self) -> list[AccessLimits]:
        """Return all limits that are set, by scope and name."""
        query = select(access_limits).order_by(access_limits.c.scope, access_limits.c.name)
        with self._database.read() as connection:
            found = [AccessLimits(**row) for row in connection.execute(query).mappings()]
            return (
                found
                if self._database.scope.reach == "platform"
                else [each for each in found if self.sees(each.scope, each.name)]
            )

    def sees(self, scope: LimitScope, name: str) -> bool:
        """Tell whether the key, project or tenant is within reach of whoever uses the database now."""
        try:
            self.check_scope(scope, name)
        except (KeyNotFound, ProjectNotFound, TenantNotFound):
            return False
        return True

    def set_weight(self, tenant: str, weight: int) -> None:
        """Give ``tenant`` so many percent of a usual share of engines that are wanted by several."""
        with self._database.write() as connection:
            self.check_scope("tenant", tenant)
            connection.execute(delete(tenant_weights).where(tenant_weights.c.tenant == tenant))
            if weight != USUAL_WEIGHT:
                connection.execute(insert(tenant_weights).values(tenant=tenant, weight=weight))

    def weights(self) -> dict[str, int]:
        """Return the weight of every tenant that has not the usual one."""
        with self._database.read() as connection:
            return {row.tenant: row.weight for row in connection.execute(select(tenant_weights))}

    def check_scope(self, scope: LimitScope, name: str) -> None:
        """Raise KeyNotFound, ProjectNotFound or TenantNotFound unless there is one of that name."""
        if scope == "key":
            self.get_key(name)
        elif scope == "project":
            self.get_project(name)
        else:
            self.get_tenant(name)

    def scope_of(self, scope: LimitScope, name: str) -> Scope:
        """Return the project of a key, the project, or the tenant as a whole; raise as :meth:`check_scope`."""
        if scope == "tenant":
            return Scope(self.get_tenant(name).name, "", "tenant")
        project = self.get_project(self.get_key(name).project if scope == "key" else name)
        return Scope(project.tenant, project.name)

    def bootstrap(self) -> str | None:
        """Create the first tenant, projects and admin key, and return the key's text; None if that was done before.

        A caller that stores the text does so inside a ``write()`` around this: if it fails, nothing was done.
        """
        with self._database.write() as connection:
            if connection.scalar(select(tenants.c.name).where(tenants.c.name == DEFAULT_TENANT)) is not None:
                return None
            self.create_tenant(DEFAULT_TENANT)
            self.create_project(DEFAULT_PROJECT)
            self.create_project(PLATFORM_PROJECT)
            return self.create_key(PLATFORM_PROJECT, "owner", "first admin key", reach="platform")[1]

    def _reached(self) -> ColumnElement[bool]:
        """Return the condition that a project is within the scope the database is used in."""
        scope = self._database.scope
        if scope.reach == "platform":
            return true()
        return projects.c.tenant == scope.tenant if scope.reach == "tenant" else projects.c.name == scope.project

    def _select_keys(self) -> Select[Any]:
        """Select the keys within reach; one that reaches further than who asks is not."""
        narrower = [reach for reach in WIDTH if WIDTH[reach] <= WIDTH[self._database.scope.reach]]
        found = select(api_keys, projects.c.tenant).join(projects)
        return found.where(self._reached(), api_keys.c.reach.in_(narrower), api_keys.c.user_name.is_(None))


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.name,
        row.project,
        row.tenant,
        row.role,
        row.created_at,
        row.expires_at,
        row.revoked_at,
        _words(row.endpoints),
        None,
        row.reach,
        cast("tuple[Permission, ...]", _words(row.verbs)),
        _words(row.networks),
    )


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
