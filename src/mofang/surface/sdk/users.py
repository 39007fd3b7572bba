"""People: sign in and out, and say who may do what."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mofang.base.domain.access import Permission, Reach, Role, User
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import API, Transport, segment


@dataclass(frozen=True, slots=True)
class UserSession:
    """An open session; ``token`` is sent in the place of a key."""

    token: str
    user: str
    role: Role
    reach: Reach
    tenant: str
    project: str
    expires_at: int

    def __repr__(self) -> str:
        return f"UserSession(user={self.user!r}, role={self.role!r}, project={self.project!r})"


@dataclass(frozen=True, slots=True)
class OidcSignIn:
    """A sign-in that has begun: where the browser is to go, and the ticket to finish with."""

    url: str
    ticket: str


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The caller, as the server sees her; ``user`` is empty for a key."""

    user: str
    key_id: str
    role: Role
    reach: Reach
    tenant: str
    project: str
    permissions: tuple[Permission, ...]
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Invited:
    """A user, and the one-time code with which she sets her password; it is shown this once."""

    user: User
    code: str


class Users:
    """``client.users``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def sign_in(self, user: str, password: str, *, project: str | None = None) -> UserSession:
        """Open a session; raise SignInFailed, SignInLater after several failures, or SignInForbidden without a role.

        It has the widest role of the user, or the widest that reaches ``project``.
        """
        return self._wire.call("POST", "/sign-in", UserSession, _given(user=user, password=password, project=project))

    def redeem_code(self, user: str, code: str, password: str) -> None:
        """Set a password with a one-time code."""
        self._send("POST", "/sign-in/code", {"user": user, "code": code, "password": password})

    def begin_oidc(self, redirect_uri: str) -> OidcSignIn:
        """Begin to sign in at the OIDC provider; the browser comes back to ``redirect_uri`` on this machine."""
        return self._wire.call("POST", "/sign-in/oidc", OidcSignIn, {"redirect_uri": redirect_uri})

    def finish_oidc(self, ticket: str, state: str, code: str, *, project: str | None = None) -> UserSession:
        """Open a session with what the browser came back with."""
        body = _given(ticket=ticket, state=state, code=code, project=project)
        return self._wire.call("POST", "/sign-in/oidc/finish", UserSession, body)

    def sign_out(self) -> None:
        """End the session this client asks with; raise NotSignedIn if it is a key."""
        self._send("POST", "/sign-out")

    def who_am_i(self) -> WhoAmI:
        """Return who this client asks as."""
        return self._wire.get("/whoami", WhoAmI)

    def list(self) -> list[User]:
        """Return the users with a role within reach, by name."""
        return [*walk(self._wire, "/users", User)]

    def create(self, name: str, role: Role, *, tenant: str | None = None, project: str | None = None) -> Invited:
        """Make a user with a role in a project, in a tenant, or with neither named, on the platform."""
        body = {"name": name, "grant": _given(role=role, tenant=tenant, project=project)}
        return self._wire.call("POST", "/users", Invited, body)

    def new_code(self, name: str) -> Invited:
        """Make a new one-time code for a user."""
        return self._wire.call("POST", f"/users/{segment(name)}/code", Invited)

    def grant(self, name: str, role: Role, *, tenant: str | None = None, project: str | None = None) -> User:
        """Give a user a role, in place of the one she had there."""
        body = _given(role=role, tenant=tenant, project=project)
        return self._wire.call("PUT", f"/users/{segment(name)}/grants", User, body)

    def revoke(self, name: str, *, tenant: str | None = None, project: str | None = None) -> User:
        """Take a user's role in a project, in a tenant or on the platform back; her sessions end."""
        where = _given(tenant=tenant, project=project)
        query = "&".join(f"{key}={segment(value)}" for key, value in where.items())
        path = f"/users/{segment(name)}/grants"
        return self._wire.call("DELETE", f"{path}?{query}" if query else path, User)

    def disable(self, name: str) -> User:
        """Let a user in no more; her sessions end."""
        return self._wire.call("DELETE", f"/users/{segment(name)}", User)

    def _send(self, method: str, path: str, body: dict[str, str] | None = None) -> None:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        self._wire.send(method, API + path, content=content, headers=headers)


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
