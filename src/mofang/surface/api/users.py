"""People: let them in, tell them who they are, and say who may do what."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.access import ApiKey, Grant, Permission, Principal, Reach, Role, User
from mofang.base.domain.errors import Forbidden, NotSignedIn, OutOfReach, SignInUnavailable
from mofang.base.identity.store import IdentityStore
from mofang.base.users.passwords import MAX_LENGTH
from mofang.base.users.rules import Rule
from mofang.base.users.signin import SignIn
from mofang.base.users.store import UserStore
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import Body, Page, ProjectName, TenantName, Text, UserName
from mofang.surface.api.provider import Provider

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
    ) -> None:
        self._users = users
        self._identity = identity
        self._sign_in = sign_in
        self._provider = provider
        self._rules = rules
        self._changes = changes

    def sign_in(self, body: PasswordBody) -> SessionView:
        """Open a session with a password. Needs no key."""
        return self._opened(*self._sign_in.by_password(body.user, body.password, body.project or ""), body.user)

    def redeem_code(self, body: CodeBody) -> None:
        """Set a password with a one-time code. Needs no key."""
        self._sign_in.redeem(body.user, body.code, body.password)
        self._changes.publish()  # sessions of before have ended

    def begin_oidc(self, body: BeginBody) -> Begun:
        """Begin to sign in at the OIDC provider. Needs no key."""
        url, ticket = self._known_provider().begin(body.redirect_uri)
        return Begun(url=url, ticket=ticket)

    def finish_oidc(self, body: FinishBody) -> SessionView:
        """Open a session for whom the OIDC provider has named. Needs no key."""
        claims = self._known_provider().finish(body.ticket, body.state, body.code)
        user, given = self._sign_in.known_by(claims, self._rules)
        return self._opened(*self._sign_in.open(user, given, body.project or ""), user.name)

    def sign_out(self, who: Caller) -> None:
        """End the session that asks."""
        if not who.user:
            raise NotSignedIn(f"{who} is a key, not a person")
        with self._changes.record(who, "session.end", who.user):
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

    def list_users(self) -> Page[User]:
        """List users by name."""
        return Page(items=self._users.list())

    def create_user(self, body: UserBody, who: Caller) -> Invited:
        """Make a user with her first role; the answer has the code with which she sets her password."""
        grant = self._grant(body.grant, who)
        with self._changes.record(who, "user.create", body.name, grant=str(grant)):
            self._users.create(body.name, [grant])
            user, code = self._users.new_code(body.name)
        return Invited(user=user, code=code)

    def create_code(self, user: UserName, who: Caller) -> Invited:
        """Make a new one-time code for a user, who may have forgotten her password."""
        self._check_power(self._users.get(user), who)
        with self._changes.record(who, "user.code", user):
            found, code = self._users.new_code(user)
        return Invited(user=found, code=code)

    def put_grant(self, user: UserName, body: GrantBody, who: Caller) -> User:
        """Give a user a role, in place of the one she had there; her sessions end."""
        grant, before = self._grant(body, who), self._users.get(user)
        _check_gift(who, *(each for each in before.grants if _place(each) == _place(grant)))
        with self._changes.record(who, "user.grant", user, before=list(map(str, before.grants)), grant=str(grant)):
            found = self._users.put_grant(user, grant)
        self._changes.publish()
        return found

    def drop_grant(
        self, user: UserName, who: Caller, tenant: TenantName | None = None, project: ProjectName | None = None
    ) -> User:
        """Take a role back from a user; her sessions end."""
        before, place = self._users.get(user), self._place(tenant, project, who)
        _check_gift(who, *(each for each in before.grants if _place(each) == place))
        with self._changes.record(who, "user.revoke", user, before=list(map(str, before.grants))) as entry:
            found = self._users.drop_grant(user, *place)
            entry.details["after"] = list(map(str, found.grants))
        self._changes.publish()
        return found

    def disable_user(self, user: UserName, who: Caller) -> User:
        """Let a user in no more; her sessions end."""
        self._check_power(self._users.get(user), who)
        with self._changes.record(who, "user.disable", user):
            found = self._users.disable(user)
        self._changes.publish()
        return found

    def _opened(self, key: ApiKey, token: str, user: str) -> SessionView:
        who = Principal(key.id, key.tenant, key.project, key.role, reach=key.reach, user=user)
        with self._changes.record(who, "session.open", user, role=key.role, reach=key.reach, project=key.project):
            pass
        self._changes.publish()
        assert key.expires_at is not None
        return SessionView(
            token=token,
            user=user,
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
) -> APIRouter:
    """Make the router of people."""
    api = Users(users, identity, sign_in, provider, rules, changes)
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
