"""Signing in: a person proves who she is, and gets a session for one of her roles.

The control API calls this. It decides which role a session has; the proof is a password, a one-time code or, checked
elsewhere, an OIDC provider's word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from mofang.base.domain.access import (
    DEFAULT_PROJECT,
    DEFAULT_TENANT,
    EVERYTHING,
    PERMISSIONS,
    WIDTH,
    ApiKey,
    Grant,
    Project,
    Scope,
    User,
)
from mofang.base.domain.errors import ProjectNotFound, SignInFailed, SignInForbidden, SignInLater
from mofang.base.domain.names import now_us
from mofang.base.identity.store import IdentityStore
from mofang.base.users.backoff import Backoff
from mofang.base.users.passwords import Passwords
from mofang.base.users.rules import Rule, grants_of, matching
from mofang.base.users.store import UserStore

Acting = Callable[[Scope], AbstractContextManager[None]]


class SignIn:
    """Lets people in. Nobody is known yet while somebody signs in: ``acting`` opens the database for that."""

    def __init__(self, users: UserStore, identity: IdentityStore, acting: Acting, session_seconds: int) -> None:
        self._users = users
        self._identity = identity
        self._acting = acting
        self._session_seconds = session_seconds
        self._passwords = Passwords()
        self._backoff = Backoff()

    def by_password(self, name: str, password: str) -> User:
        """Return whose name and password that is. Raises SignInFailed or SignInLater.

        A name that nobody has fails in the same words, after the same time.
        """
        self._check_backoff(name)
        if not self._passwords.check(password, self._users.find_password(name)):
            self._backoff.failed(name)
            raise SignInFailed("the name or the password is wrong")
        self._backoff.succeeded(name)
        with self._acting(EVERYTHING):
            return self._users.get(name)

    def hashed(self, name: str, password: str) -> str:
        """Return what is kept of a new password. Raises SignInLater or InvalidPassword."""
        self._check_backoff(name)
        return self._passwords.hash(password)

    def redeem(self, name: str, code: str, password_hash: str) -> None:
        """Set a password, hashed, with a one-time code. Raises SignInFailed."""
        if not self._users.redeem(name, code, password_hash):
            self._backoff.failed(name)
            raise SignInFailed(
                "the name or the code is wrong, or the code is too old", hint="a code works once, for a week"
            )
        self._backoff.succeeded(name)

    def known_by(self, claims: Mapping[str, Any], rules: Sequence[Rule]) -> tuple[User, list[Grant]]:
        """Return whom a provider has named, made if she comes the first time, and her roles: by ``rules``, and her own.

        Raises SignInForbidden without a role, and UserExists if another has her name.
        """
        issuer, subject = str(claims["iss"]), str(claims["sub"])
        with self._acting(EVERYTHING):
            given = grants_of(matching(rules, claims), {it.name: it.tenant for it in self._identity.list_projects()})
            user = self._users.find_subject(issuer, subject)
            if user is None:
                if not given:
                    raise SignInForbidden(f"{_called(claims)!r} has no role here")
                user = self._users.create(_called(claims), (), issuer, subject)
        if user.disabled_at is not None:
            raise SignInForbidden(f"user {user.name!r} is let in no more", hint="ask who looks after your tenant")
        return user, [*given, *user.grants]

    def open(self, user: User, given: Iterable[Grant], project: str = "") -> tuple[ApiKey, str]:
        """Open a session for a user who has proved who she is, with one of the roles she was given.

        That is the widest of them, or of those that reach ``project``. Raises SignInForbidden if there is none.
        """
        with self._acting(EVERYTHING):
            grant = _widest(self._reaching(given, project) if project else given)
            if grant is None:
                raise SignInForbidden(
                    f"user {user.name!r} has no role {f'in project {project!r}' if project else 'here'}"
                )
            expires_at = now_us() + self._session_seconds * 1_000_000
            home = project or self._home(grant)
            return self._identity.create_key(home, grant.role, "session", expires_at, reach=grant.reach, user=user.name)

    def _check_backoff(self, name: str) -> None:
        wait = self._backoff.wait_seconds(name)
        if wait > 0:
            raise SignInLater("too many failures in a row under this name", retry_after_seconds=max(1, math.ceil(wait)))

    def _reaching(self, given: Iterable[Grant], project: str) -> list[Grant]:
        try:
            found = self._identity.get_project(project)
        except ProjectNotFound:
            return []  # in the words of one that is not hers
        return [grant for grant in given if _covers(grant, found)]

    def _home(self, grant: Grant) -> str:
        """Return the project that what she makes will belong to, where she named none."""
        if grant.project:
            return grant.project
        tenant = grant.tenant or DEFAULT_TENANT
        names = [each.name for each in self._identity.list_projects() if each.tenant == tenant]
        if not names:
            raise SignInForbidden(
                f"tenant {tenant!r} has no project yet", hint="`mofang projects create NAME --tenant T`"
            )
        return DEFAULT_PROJECT if DEFAULT_PROJECT in names else names[0]


def _called(claims: Mapping[str, Any]) -> str:
    """Return what to call the person: her verified address, or what the provider calls her."""
    address = claims.get("email") if claims.get("email_verified") is True else None
    return str(address or claims.get("preferred_username") or claims["sub"]).lower()


def _covers(grant: Grant, project: Project) -> bool:
    if grant.project:
        return grant.project == project.name
    return grant.tenant in ("", project.tenant)


def _widest(given: Iterable[Grant]) -> Grant | None:
    return max(given, key=lambda grant: (WIDTH[grant.reach], len(PERMISSIONS[grant.role])), default=None)
