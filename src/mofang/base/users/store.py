"""People as tables: who there is, how each signs in, and the roles each was given.

The control API makes users here and lets them in; a session is a short-lived key of :mod:`mofang.base.identity`, so
that gateways know it, and lose it, like any other.
"""

from __future__ import annotations

import builtins
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    ForeignKey,
    Row,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
    update,
)

from mofang.base.domain.access import Grant, Role, Scope, User
from mofang.base.domain.errors import GrantNotFound, UserExists, UserNotFound
from mofang.base.domain.names import now_us
from mofang.base.domain.users import check_user_name
from mofang.base.identity.store import IdentityStore
from mofang.base.storage.database import Database, metadata

CODE_SECONDS = 7 * 86_400

users = Table(
    "users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("password", Text),  # the argon2 hash; null: none set
    Column("code_sha256", Text),  # of the one-time code that sets a password; null: none is open
    Column("code_expires_at", BigInteger),
    Column("issuer", Text),  # of the OIDC provider that knows her; null: signs in by password
    Column("subject", Text),  # what that provider calls her
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
    UniqueConstraint("issuer", "subject"),
)
grants = Table(
    "grants",
    metadata,
    Column("user", Text, ForeignKey("users.name"), primary_key=True),
    Column("tenant", Text, primary_key=True),  # empty: the whole platform
    Column("project", Text, primary_key=True),  # empty: the whole tenant
    Column("role", Text, nullable=False),
)


class UserStore:
    """Users, their grants and their one-time codes."""

    def __init__(self, database: Database, identity: IdentityStore) -> None:
        self._database = database
        self._identity = identity

    def create(self, name: str, given: Iterable[Grant] = (), issuer: str = "", subject: str = "") -> User:
        """Create a user who cannot sign in yet, unless a provider knows her; raise UserExists."""
        check_user_name(name)
        with self._database.write() as connection:
            if connection.scalar(select(users.c.name).where(users.c.name == name)) is not None:
                raise UserExists(f"user {name!r} exists already")
            row = {"name": name, "issuer": issuer or None, "subject": subject or None, "created_at": now_us()}
            connection.execute(insert(users).values(row))
            for grant in given:
                _put(connection, name, grant)
            return _get(connection, name)

    def get(self, name: str) -> User:
        """Return the user; raise UserNotFound, also if no grant of hers is within reach."""
        with self._database.read() as connection:
            return self._seen(_get(connection, name))

    def find_subject(self, issuer: str, subject: str) -> User | None:
        """Return whom an OIDC provider calls ``subject``."""
        with self._database.read() as connection:
            name = connection.scalar(select(users.c.name).where(users.c.issuer == issuer, users.c.subject == subject))
            return _get(connection, name) if name else None

    def list(self) -> list[User]:
        """Return the users with a grant within reach, by name."""
        with self._database.read() as connection:
            names = connection.scalars(select(users.c.name).order_by(users.c.name)).all()
            found = [_get(connection, name) for name in names]
        return [user for user in found if self._reaches(user)]

    def put_grant(self, name: str, grant: Grant) -> User:
        """Give a role, in place of one she had there."""
        with self._database.write() as connection:
            self.get(name)
            _put(connection, name, grant)
            self._end_sessions(name)
            return _get(connection, name)

    def drop_grant(self, name: str, tenant: str, project: str) -> User:
        """Take a role back, and end her sessions; raise GrantNotFound."""
        with self._database.write() as connection:
            self.get(name)
            if connection.execute(delete(grants).where(_at(name, tenant, project))).rowcount == 0:
                raise GrantNotFound(f"user {name!r} has no role there")
            self._end_sessions(name)
            return _get(connection, name)

    def disable(self, name: str) -> User:
        """Let her in no more, and end her sessions."""
        with self._database.write() as connection:
            self.get(name)
            values = {"disabled_at": now_us(), "password": None, "code_sha256": None}
            connection.execute(update(users).where(users.c.name == name).values(values))
            self._end_sessions(name)
            return _get(connection, name)

    def erase(self, name: str) -> bool:
        """Remove a user with roles and sessions, so that nothing here names her; tell whether there was one."""
        with self._database.write() as connection:
            self._identity.erase_name(name)
            connection.execute(delete(grants).where(grants.c.user == name))
            return connection.execute(delete(users).where(users.c.name == name)).rowcount > 0

    def new_code(self, name: str) -> tuple[User, str]:
        """Return a one-time code with which she sets a password; it takes the place of any she had."""
        code = secrets.token_urlsafe(24)
        with self._database.write() as connection:
            self.get(name)
            values = {"code_sha256": _sha256(code), "code_expires_at": now_us() + CODE_SECONDS * 1_000_000}
            values |= {"disabled_at": None}
            connection.execute(update(users).where(users.c.name == name).values(values))
            return _get(connection, name), code

    def redeem(self, name: str, code: str, password_hash: str) -> bool:
        """Set her password if ``code`` is the open one; it is used up, her sessions end. False: wrong or too old."""
        with self._database.write() as connection:
            row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
            kept = row.code_sha256 if row and (row.code_expires_at or 0) > now_us() else None
            if not hmac.compare_digest(_sha256(code), kept or "0" * 64):
                return False
            values = {"password": password_hash, "code_sha256": None, "code_expires_at": None}
            connection.execute(update(users).where(users.c.name == name).values(values))
            self._end_sessions(name)
            return True

    def find_password(self, name: str) -> str | None:
        """Return the hash of her password; None if there is no such user, or she has none or is disabled."""
        query = select(users.c.password).where(users.c.name == name, users.c.disabled_at.is_(None))
        with self._database.read() as connection:
            return connection.scalar(query)

    def places(self, name: str) -> builtins.list[Scope] | None:
        """Return where the user has roles, the platform apart, whoever asks; None if nobody has that name."""
        with self._database.read() as connection:
            try:
                found = _get(connection, name)
            except UserNotFound:
                return None
        return [Scope(it.tenant, it.project, it.reach) for it in found.grants if it.tenant]

    def _end_sessions(self, name: str) -> None:
        self._identity.revoke_sessions(name)

    def _seen(self, user: User) -> User:
        if not self._reaches(user):
            raise UserNotFound(f"there is no user {user.name!r}")
        return user

    def _reaches(self, user: User) -> bool:
        scope = self._database.scope
        return scope.reach == "platform" or any(scope.covers(each.tenant, each.project) for each in user.grants)


def _get(connection: Connection, name: str) -> User:
    row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
    if row is None:
        raise UserNotFound(f"there is no user {name!r}")
    query = select(grants).where(grants.c.user == name).order_by(grants.c.tenant, grants.c.project)
    return _user(row, connection.execute(query).all())


def _user(row: Row[Any], given: Sequence[Row[Any]]) -> User:
    return User(
        row.name,
        tuple(Grant(cast(Role, each.role), each.tenant, each.project) for each in given),
        row.created_at,
        row.disabled_at,
        row.issuer or "",
        row.password is not None,
        row.code_expires_at if row.code_sha256 else None,
    )


def _put(connection: Connection, name: str, grant: Grant) -> None:
    connection.execute(delete(grants).where(_at(name, grant.tenant, grant.project)))
    row = {"user": name, "tenant": grant.tenant, "project": grant.project, "role": grant.role}
    connection.execute(insert(grants).values(row))


def _at(name: str, tenant: str, project: str) -> ColumnElement[bool]:
    return (grants.c.user == name) & (grants.c.tenant == tenant) & (grants.c.project == project)


def _sha256(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
