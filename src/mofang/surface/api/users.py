"""People: let them in, tell them who they are, and say who may do what."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.access import Grant, Permission, Principal, Reach, Role, Scope, User
from mofang.base.domain.errors import Forbidden, NotSignedIn, OutOfReach, SignInUnavailable
from mofang.base.identity.store import IdentityStore
from mofang.base.users.passwords import MAX_LENGTH
from mofang.base.users.rules import Rule
from mofang.base.users.signin import SignIn
from mofang.base.users.store import UserStore
from mofang.surface.api.access import Address, Caller, Route, table
from mofang.surface.api.changes import PLATFORM, Changes
from mofang.surface.api.fields import Body, Page, ProjectName, TenantName, Text, UserName
from mofang.surface.api.provider import Provider
from mofang.surface.api.refusals import Refusals

_log = logging.getLogger("mofang.api")


class PasswordBody(Body):
    """Who signs in, with which password, to work in which project (left out: where her widest role is)."""

    user: UserName
    password: Text = Field(max_length=MAX_LENGTH)
    project: ProjectName | None = None


class CodeBody(Body):
    """A one-time code, and the password it is to set."""

    user: UserName
    code: Text = Field(max_length=200)
    password: Text = Field(max_length=MAX_LENGTH)


class BeginBody(Body):
    """Where the browser is to come back to, on the machine of whoever signs in."""

    redirect_uri: Text = Field(max_length=1000)


class Begun(BaseModel):
    """Where the browser is to go, and the ticket to finish with."""

    url: str
    ticket: str


class FinishBody(Body):
    """What the browser came back with."""

    ticket: Text = Field(max_length=200)
    state: Text = Field(max_length=200)
    code: Text = Field(max_length=4000)
    project: ProjectName | None = None


class SessionView(BaseModel):
    """A session that was just opened. ``token`` is sent like a key, and shown this once."""

    token: str
    user: str
    role: Role
    reach: Reach
    tenant: str
    project: str
    expires_at: int


class WhoAmI(BaseModel):
    """The caller, as the server sees her."""

    user: str
    key_id: str
    role: Role
    reach: Reach
    tenant: str
    project: str
    permissions: list[Permission]
    endpoints: list[str]


class GrantBody(Body):
    """A role in a project, in a tenant (no project named) or on the platform (no tenant either)."""

    role: Role
    tenant: TenantName | None = None
    project: ProjectName | None = None


class UserBody(Body):
    """A new user's name, and her first role."""

    name: UserName
    grant: GrantBody


class Invited(BaseModel):
    """A user, and the one-time code with which she sets her password; it is shown this once."""

    user: User
    code: str


class Users:
    """The routes of people."""

    def __init__(
        self,
        users: UserStore,
        identity: IdentityStore,
        sign_in: SignIn,
        provider: Provider | None,
        rules: Sequence[Rule],
        changes: Changes,
        refusals: Refusals,
    ) -> None:
        self._users = users
        self._identity = identity
        self._sign_in = sign_in
        self._provider = provider
        self._rules = rules
        self._changes = changes
        self._refusals = refusals

    def sign_in(self, body: PasswordBody, address: Address) -> SessionView:
        """Open a session with a password. Needs no key."""
        with self._refusals.watch(body.user, "password", address):
            user = self._sign_in.by_password(body.user, body.password)
            return self._open(user, user.grants, body.project, address)

    def redeem_code(self, body: CodeBody, address: Address) -> None:
        """Set a password with a one-time code. Needs no key."""
        of = self._users.places(body.user) or PLATFORM
        with self._refusals.watch(body.user, "code", address):
            hashed = self._sign_in.hashed(body.user, body.password)
            who, old = _person(body.user, address), {"code": "open"}
            with self._changes.record(who, "user.password", body.user, of=of, before=old, after={"code": "used"}):
                self._sign_in.redeem(body.user, body.code, hashed)
        self._changes.publish()  # sessions of before have ended

    def begin_oidc(self, body: BeginBody) -> Begun:
        """Begin to sign in at the OIDC provider. Needs no key."""
        url, ticket = self._known_provider().begin(body.redirect_uri)
        return Begun(url=url, ticket=ticket)

    def finish_oidc(self, body: FinishBody, address: Address) -> SessionView:
        """Open a session for whom the OIDC provider has named. Needs no key."""
        with self._refusals.watch("", "oidc", address):
            claims = self._known_provider().finish(body.ticket, body.state, body.code)
            user, given = self._sign_in.known_by(claims, self._rules)
            return self._open(user, given, body.project, address)

    def sign_out(self, who: Caller) -> None:
        """End the session that asks."""
        if not who.user:
            raise NotSignedIn(f"{who} is a key, not a person")
        told = {"role": who.role, "reach": who.reach, "project": who.project, "key": who.key_id}
        of = Scope(who.tenant, who.project)
        with self._changes.record(who, "session.end", who.user, of=of, before=told, after=None):
            self._identity.end_session(who.key_id)
        self._changes.publish()

    def who_am_i(self, who: Caller) -> WhoAmI:
        """Say who asks, and what she may do."""
        return WhoAmI(
            user=who.user,
            key_id=who.key_id,
            role=who.role,
            reach=who.reach,
            tenant=who.tenant,
            project=who.project,
            permissions=sorted(who.permissions),
            endpoints=list(who.endpoints),
        )

    def list_users(self, who: Caller) -> Page[User]:
        """List users by name."""
        return Page(items=[_shown(user, who) for user in self._users.list()])

    def create_user(self, body: UserBody, who: Caller) -> Invited:
        """Make a user with her first role; the answer has the code with which she sets her password."""
        grant = self._grant(body.grant, who)
        with self._changes.record(who, "user.create", body.name, of=_of(grant), before=None) as entry:
            self._users.create(body.name, [grant])
            user, code = self._users.new_code(body.name)
            entry.after = {"grant": str(grant), "code_expires_at": user.code_expires_at}
        return Invited(user=user, code=code)

    def create_code(self, user: UserName, who: Caller) -> Invited:
        """Make a new one-time code for a user, who may have forgotten her password."""
        before = self._users.get(user)
        self._check_power(before, who)
        with self._changes.record(who, "user.code", user, of=_of(*before.grants), before=_entry(before)) as entry:
            found, code = self._users.new_code(user)
            entry.after = _entry(found)
        return Invited(user=_shown(found, who), code=code)

    def put_grant(self, user: UserName, body: GrantBody, who: Caller) -> User:
        """Give a user a role, in place of the one she had there; her sessions end."""
        grant, before = self._grant(body, who), self._users.get(user)
        old = [each for each in before.grants if _place(each) == _place(grant)]
        _check_gift(who, *old)
        with self._changes.record(who, "user.grant", user, of=_of(grant), before=_named(*old), after=_named(grant)):
            found = self._users.put_grant(user, grant)
        self._changes.publish()
        return _shown(found, who)

    def drop_grant(
        self, user: UserName, who: Caller, tenant: TenantName | None = None, project: ProjectName | None = None
    ) -> User:
        """Take a role back from a user; her sessions end."""
        before, place = self._users.get(user), self._place(tenant, project, who)
        old = [each for each in before.grants if _place(each) == place]
        _check_gift(who, *old)
        with self._changes.record(who, "user.revoke", user, of=_of(*old), before=_named(*old), after=None):
            found = self._users.drop_grant(user, *place)
        self._changes.publish()
        return _shown(found, who)

    def disable_user(self, user: UserName, who: Caller) -> User:
        """Let a user in no more; her sessions end."""
        before = self._users.get(user)
        self._check_power(before, who)
        with self._changes.record(who, "user.disable", user, of=_of(*before.grants), before=_entry(before)) as entry:
            found = self._users.disable(user)
            entry.after = _entry(found)
        self._changes.publish()
        return _shown(found, who)

    def _open(self, user: User, given: Iterable[Grant], project: str | None, address: str) -> SessionView:
        who = _person(user.name, address)
        with self._changes.record(who, "session.open", user.name, of=PLATFORM, before=None) as entry:
            key, token = self._sign_in.open(user, given, project or "")
            entry.of = Scope(key.tenant, key.project)
            entry.after = {"role": key.role, "reach": key.reach, "project": key.project, "key": key.id}
        self._changes.publish()
        assert key.expires_at is not None
        return SessionView(
            token=token,
            user=user.name,
            role=key.role,
            reach=key.reach,
            tenant=key.tenant,
            project=key.project,
            expires_at=key.expires_at,
        )

    def _known_provider(self) -> Provider:
        if self._provider is None:
            raise SignInUnavailable("no OIDC provider is set up here")
        return self._provider

    def _grant(self, body: GrantBody, who: Principal) -> Grant:
        """Return the grant that is meant, if the caller may give it."""
        grant = Grant(body.role, *self._place(body.tenant, body.project, who))
        _check_gift(who, grant)
        return grant

    def _place(self, tenant: str | None, project: str | None, who: Principal) -> tuple[str, str]:
        """Return tenant and project; raise what a thing out of reach raises."""
        if project is not None:
            return self._identity.get_project(project).tenant, project
        if tenant is not None:
            self._identity.get_tenant(tenant)
            if not who.scope.covers(tenant):
                raise OutOfReach("a key that reaches one project says nothing about its tenant")
            return tenant, ""
        if who.reach != "platform":
            raise OutOfReach("only who reaches the whole platform says who may do what everywhere")
        return "", ""

    def _check_power(self, user: User, who: Principal) -> None:
        """Raise OutOfReach for a user with a role that the caller could not give her: she could become her."""
        if not all(who.scope.covers(*_place(grant)) and who.may_give(grant.role, grant.reach) for grant in user.grants):
            raise OutOfReach(f"user {user.name!r} has roles beyond yours")


def _person(user: str, address: str) -> Principal:
    """Return who is about to sign in, as the audit log names her."""
    return Principal("", "", "", "viewer", user=user, address=address)


def _shown(user: User, who: Principal) -> User:
    """Return the user as the caller may see her: with the roles that are within reach."""
    return replace(user, grants=tuple(each for each in user.grants if who.scope.covers(*_place(each))))


def _entry(user: User) -> dict[str, object]:
    """Return what the audit log says of how a user gets in."""
    return {"disabled_at": user.disabled_at, "code_expires_at": user.code_expires_at}


def _named(*grants: Grant) -> dict[str, str] | None:
    """Return what the audit log says of the role somebody has in one place."""
    return {"grant": str(grants[0])} if grants else None


def _of(*grants: Grant) -> list[Scope]:
    return [Scope(each.tenant, each.project, each.reach) for each in grants if each.tenant]


def _place(grant: Grant) -> tuple[str, str]:
    return grant.tenant, grant.project


def _check_gift(who: Principal, *grants: Grant) -> None:
    for grant in grants:
        if not who.may_give(grant.role, grant.reach):
            hint = "nobody gives, or takes, more than she has; `mofang roles` shows what each role may do"
            raise Forbidden(f"{who} ({who.role} of a {who.reach}) has no say about {grant}", hint=hint)


def router(
    users: UserStore,
    identity: IdentityStore,
    sign_in: SignIn,
    provider: Provider | None,
    rules: Sequence[Rule],
    changes: Changes,
    refusals: Refusals,
) -> APIRouter:
    """Make the router of people."""
    api = Users(users, identity, sign_in, provider, rules, changes, refusals)
    one = "/users/{user}"
    return table(
        "users",
        Route("POST", "/sign-in", None, api.sign_in, 201),
        Route("POST", "/sign-in/code", None, api.redeem_code, 204),
        Route("POST", "/sign-in/oidc", None, api.begin_oidc, 201),
        Route("POST", "/sign-in/oidc/finish", None, api.finish_oidc, 201),
        Route("POST", "/sign-out", "usage", api.sign_out, 204),
        Route("GET", "/whoami", "usage", api.who_am_i),
        Route("GET", "/users", "identity", api.list_users),
        Route("POST", "/users", "identity", api.create_user, 201),
        Route("POST", f"{one}/code", "identity", api.create_code, 201),
        Route("PUT", f"{one}/grants", "identity", api.put_grant),
        Route("DELETE", f"{one}/grants", "identity", api.drop_grant),
        Route("DELETE", one, "identity", api.disable_user),
    )
