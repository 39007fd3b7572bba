"""`mofang login`, `logout`, `whoami` and `users`: people, their sessions, and what each may do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from mofang.base.domain.access import Grant, Role
from mofang.base.domain.errors import InvalidRequest
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic, verb

if TYPE_CHECKING:
    from mofang.base.domain.access import User
    from mofang.surface.sdk.users import Invited, UserSession

USER_JSON = "name, grants (role, tenant, project), created_at, disabled_at, issuer, has_password, code_expires_at"
PLACE = "in a project, in a tenant, or with neither named, on the whole platform"


@verb(
    "login",
    example="mofang login ada@acme.com\nmofang login ada@acme.com --code CODE\nmofang login --oidc --project shop",
    json="One object: user, role, reach, tenant, project, expires_at.",
)
@click.argument("user", default="")
@click.option("--project", metavar="NAME", help="Where to work; left out: where your widest role is.")
@click.option("--oidc", is_flag=True, help="Sign in at the server's OpenID Connect provider, in the browser.")
@click.option("--code", metavar="CODE", help="First set a password, with the one-time code you were given.")
@click.pass_obj
def login(session: Session, user: str, project: str | None, oidc: bool, code: str | None) -> None:
    """Sign in as a person; until `mofang logout`, commands that name no key act as you.

    The password is asked for, or read from standard input.
    """
    from mofang.surface.cli.browser import sign_in_by_browser

    if oidc == bool(user):
        raise click.UsageError("name a user, or --oidc")
    people = session.visitor.users
    if oidc:
        opened = sign_in_by_browser(people, project, session.is_live)
    else:
        password = _password("New password" if code else "Password", confirm=bool(code))
        if code:
            people.redeem_code(user, code, password)
        opened = people.sign_in(user, password, project=project)
    session.remember(opened.token)
    shown = {name: getattr(opened, name) for name in ("user", "role", "reach", "tenant", "project", "expires_at")}

    def draw() -> None:
        screen.heading(f"you are {opened.user}, {opened.role} of {_reached(opened)}")
        screen.fields([("you work in", f"project {opened.project}"), ("until", format.moment(opened.expires_at))])
        screen.then("mofang whoami", "mofang logout")

    session.answer(shown, draw)


def _reached(opened: UserSession) -> str:
    names = {"project": f"project {opened.project}", "tenant": f"tenant {opened.tenant}"}
    return names.get(opened.reach, "the platform")


def _password(prompt: str, *, confirm: bool) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    given = sys.stdin.readline().rstrip("\n")
    if not given:
        raise InvalidRequest(
            "no password came over standard input", hint="printf '%s' \"$PASSWORD\" | mofang login NAME"
        )
    return given


@verb("logout", example="mofang logout", json="One object: signed_out.")
@click.pass_obj
def logout(session: Session) -> None:
    """End your session, everywhere, and forget it."""
    was_signed_in = session.remembered
    if was_signed_in:
        try:
            session.client.users.sign_out()
        finally:
            session.forget()
    text = "your session has ended" if was_signed_in else "you were not signed in"
    session.answer({"signed_out": was_signed_in}, lambda: screen.heading(text))


@verb(
    "whoami",
    example="mofang whoami",
    json="One object: user, key_id, role, reach, tenant, project, permissions, endpoints.",
)
@click.pass_obj
def whoami(session: Session) -> None:
    """Say as whom you ask, and what you may do."""
    found = session.client.users.who_am_i()

    def draw() -> None:
        screen.heading(f"{found.user or f'key {found.key_id}'}, {found.role} of a {found.reach}")
        screen.fields(
            [
                ("tenant", found.tenant),
                ("project", found.project),
                ("may", ", ".join(found.permissions)),
                ("may ask", ", ".join(found.endpoints) or "every endpoint"),
            ]
        )

    session.answer(found, draw)


users = topic("users", "People, and the role each has in which project or tenant.", usual="list")
ROLE = click.argument("role", type=click.Choice(get_args(Role)))
TENANT = click.option("--tenant", metavar="NAME", help="In all projects of a tenant.")
PROJECT = click.option("--project", metavar="NAME", help="In one project.")


@users.verb("list", example="mofang users list", json=f"{{items}}, each: {USER_JSON}.")
@click.pass_obj
def list_users(session: Session) -> None:
    """List users by name."""
    found, now = session.client.users.list(), now_us()
    rows = [
        (user.name, "\n".join(map(str, user.grants)), _state(user), format.ago(user.created_at, now)) for user in found
    ]
    empty = "no users yet; `mofang users create NAME viewer --project P` invites one"
    session.answer_list(found, lambda: screen.table(("user", "roles", "state", "created"), rows, empty=empty))


def _state(user: User) -> str:
    if user.disabled_at:
        return "disabled"
    if user.issuer:
        return f"by {user.issuer}"
    return "ok" if user.has_password else "invited"


@users.verb(
    "create",
    example="mofang users create ada@acme.com developer --project shop\nmofang users create bob auditor",
    json=f"One object: user ({USER_JSON}), code (shown this once).",
)
@click.argument("name")
@ROLE
@TENANT
@PROJECT
@click.pass_obj
def create(session: Session, name: str, role: Any, tenant: str | None, project: str | None) -> None:
    """Invite a person with a role in a project, in a tenant, or with neither named, on the whole platform."""
    found = session.client.users.create(name, role, tenant=tenant, project=project)
    session.answer(found, lambda: _draw_code(session, found, f"{name} is {found.user.grants[0]}"))


@users.verb("code", example="mofang users code ada@acme.com", json=f"One object: user ({USER_JSON}), code.")
@click.argument("name")
@click.pass_obj
def code(session: Session, name: str) -> None:
    """Make a new one-time code for somebody who forgot her password; it also lets in who was disabled."""
    found = session.client.users.new_code(name)
    session.answer(found, lambda: _draw_code(session, found, f"a new code for {name}"))


def _draw_code(session: Session, found: Invited, title: str) -> None:
    screen.heading(f"{title}; the code is shown this once")
    expires = format.moment(found.user.code_expires_at or 0)
    screen.fields([("code", found.code), ("works once, until", expires)])
    screen.then(f"mofang login {found.user.name} --url {session.connection.url} --code CODE")


@users.verb(
    "grant",
    example="mofang users grant ada@acme.com admin --tenant acme",
    json=f"One object: {USER_JSON}.",
)
@click.argument("name")
@ROLE
@TENANT
@PROJECT
@click.pass_obj
def grant(session: Session, name: str, role: Any, tenant: str | None, project: str | None) -> None:
    """Give a role, in place of the one she had there; her sessions end, so that she signs in to it."""
    found = session.client.users.grant(name, role, tenant=tenant, project=project)
    given = Grant(role, tenant or "", project or "")
    session.answer(found, lambda: screen.heading(f"{name} is {given}"))


@users.verb("revoke", example="mofang users revoke ada@acme.com --tenant acme", json=f"One object: {USER_JSON}.")
@click.argument("name")
@TENANT
@PROJECT
@click.pass_obj
def revoke(session: Session, name: str, tenant: str | None, project: str | None) -> None:
    """Take a role back; her sessions end."""
    found = session.client.users.revoke(name, tenant=tenant, project=project)
    left = ", ".join(map(str, found.grants)) or "nothing"
    session.answer(found, lambda: screen.heading(f"{name} is left with: {left}"))


@users.verb("disable", example="mofang users disable ada@acme.com", json=f"One object: {USER_JSON}.")
@click.argument("name")
@click.pass_obj
def disable(session: Session, name: str) -> None:
    """Let somebody in no more; her sessions end in every gateway when this returns."""
    found = session.client.users.disable(name)
    session.answer(found, lambda: screen.heading(f"{name} is let in no more; `mofang users code {name}` undoes it"))
