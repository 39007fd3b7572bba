"""`mofang keys`, `projects` and `tenants`: who may ask, who uses, who pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from mofang.base.domain.access import Permission, Reach, Role
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.base.domain.access import ApiKey
    from mofang.surface.sdk.identity import NewApiKey

KEY_JSON = (
    "id, name, project, tenant, role, created_at, expires_at, revoked_at, endpoints, last_used_at, reach, verbs, "
    "networks"
)
NEW_KEY_JSON = (
    "One object: key (shown this once), id, name, project, tenant, role, created_at, expires_at, endpoints, reach, "
    "verbs, networks."
)
ROLES, REACHES, VERBS = get_args(Role), get_args(Reach), get_args(Permission)
PROJECT_JSON = "name, tenant, created_at"

keys = topic(
    "keys", "API keys: each belongs to a project; its secret is shown once and stored only as a hash.", usual="list"
)


@keys.verb(
    "create",
    example="mofang keys create --project shop --name checkout --expires 90d\n"
    "mofang keys create --project shop --endpoint digits --network 203.0.113.0/24\n"
    "mofang keys create --project shop --role admin --reach tenant --verb usage",
    json=NEW_KEY_JSON,
)
@click.option("--project", required=True, metavar="NAME", help="Whose usage it is.")
@click.option(
    "--role",
    type=click.Choice(ROLES),
    default="consumer",
    show_default=True,
    help="What it may do: `mofang roles` shows it.",
)
@click.option(
    "--reach",
    type=click.Choice(REACHES),
    default="project",
    show_default=True,
    help="Whose things it sees: its project's, its tenant's, or everybody's.",
)
@click.option("--name", default="", help="For people to tell keys apart.")
@click.option("--expires", metavar="SPAN", help="When it stops working, e.g. 90d; left out: never.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="NAME", help="What it may ask; left out: everything.")
@click.option("--verb", "verbs", multiple=True, type=click.Choice(VERBS), help="What of its role; left out: all.")
@click.option(
    "--network", "networks", multiple=True, metavar="CIDR", help="Where it may come from; left out: anywhere."
)
@click.pass_obj
def create(
    session: Session,
    project: str,
    role: Any,
    reach: Any,
    name: str,
    expires: str | None,
    endpoints: tuple[str, ...],
    verbs: tuple[Any, ...],
    networks: tuple[str, ...],
) -> None:
    """Make a key; every gateway knows it when this returns."""
    span = format.parse_span(expires) if expires else None
    found = session.client.identity.create_key(
        project,
        role=role,
        name=name,
        expires_in_seconds=span,
        endpoints=endpoints,
        reach=reach,
        verbs=verbs,
        networks=networks,
    )
    session.answer(found, lambda: _draw_new(found))


def _draw_new(found: NewApiKey) -> None:
    screen.heading(f"key {found.id} for project {found.project}; it is shown this once")
    expires = format.moment(found.expires_at or 0) if found.expires_at else "never"
    shown = [("key", found.key), ("role", f"{found.role} of its {found.reach}"), ("expires", expires)]
    shown += [("may ask", ", ".join(found.endpoints) or "every endpoint")]
    shown += [("only to", ", ".join(found.verbs))] if found.verbs else []
    shown += [("only from", ", ".join(found.networks))] if found.networks else []
    screen.fields(shown)
    screen.then(
        "export MOFANG_API_KEY=KEY", "mofang predict ENDPOINT --input NAME=@rows.json", f"mofang keys revoke {found.id}"
    )


@keys.verb("rotate", example="mofang keys rotate a1b2c3d4e5 --overlap 1h", json=NEW_KEY_JSON)
@click.argument("id")
@click.option("--overlap", default="1h", show_default=True, metavar="SPAN", help="How long the old key still works.")
@click.pass_obj
def rotate(session: Session, id: str, overlap: str) -> None:
    """Make a key in the place of another, with its role, scope, limits and length of life."""
    span = format.parse_span(overlap)
    found = session.client.identity.rotate_key(id, overlap_seconds=span)

    def draw() -> None:
        _draw_new(found)
        screen.say(f"key {id} works for {format.duration(span)} more")

    session.answer(found, draw)


@keys.verb("list", example="mofang keys list --project shop", json=f"{{items}}, each: {KEY_JSON}.")
@click.option("--project", metavar="NAME", help="Only this project's.")
@click.pass_obj
def list_keys(session: Session, project: str | None) -> None:
    """List keys; never their secrets."""
    found = session.client.identity.list_keys(project)
    now = now_us()
    rows = [
        (k.id, k.name or "-", k.project, k.tenant, k.role, k.reach, _state(k, now), format.ago(k.created_at, now),
         format.ago(k.expires_at, now) if k.expires_at else "never", ", ".join(k.endpoints) or "everything",
         ", ".join(k.networks) or "anywhere", format.ago(k.last_used_at, now) if k.last_used_at else "never")
        for k in found
    ]  # fmt: skip
    heads = ("key", "name", "project", "tenant", "role", "reach", "state", "created", "expires", "may ask", "from",
             "last used")  # fmt: skip
    session.answer_list(found, lambda: screen.table(heads, rows))


@keys.verb("revoke", example="mofang keys revoke a1b2c3d4e5", json=f"One object: {KEY_JSON}.")
@click.argument("id")
@click.pass_obj
def revoke(session: Session, id: str) -> None:
    """Revoke a key; no gateway takes it when this returns."""
    found = session.client.identity.revoke_key(id)
    text = f"key {found.id} of project {found.project} is revoked everywhere"
    session.answer(found, lambda: screen.heading(text))


def _state(key: ApiKey, now: int) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= now else "ok"


projects = topic("projects", "Projects: who uses; each belongs to a tenant, who pays.", usual="list")


@projects.verb("create", example="mofang projects create shop --tenant acme", json=f"One object: {PROJECT_JSON}.")
@click.argument("name")
@click.option("--tenant", default="default", show_default=True, help="Who pays.")
@click.pass_obj
def create_project(session: Session, name: str, tenant: str) -> None:
    """Make a project."""
    found = session.client.identity.create_project(name, tenant)

    def draw() -> None:
        screen.heading(f"project {found.name}; tenant {found.tenant} pays")
        screen.then(f"mofang keys create --project {found.name}")

    session.answer(found, draw)


@projects.verb("list", example="mofang projects list", json=f"{{items}}, each: {PROJECT_JSON}.")
@click.pass_obj
def list_projects(session: Session) -> None:
    """List projects by name."""
    found = session.client.identity.list_projects()
    now = now_us()
    rows = [(p.name, p.tenant, format.ago(p.created_at, now)) for p in found]
    session.answer_list(found, lambda: screen.table(("project", "tenant", "created"), rows))


tenants = topic("tenants", "Tenants: who pays.", usual="list")


@tenants.verb("create", example="mofang tenants create acme", json="One object: name, created_at.")
@click.argument("name")
@click.pass_obj
def create_tenant(session: Session, name: str) -> None:
    """Make a tenant."""
    found = session.client.identity.create_tenant(name)

    def draw() -> None:
        screen.heading(f"tenant {found.name}")
        screen.then(f"mofang projects create NAME --tenant {found.name}")

    session.answer(found, draw)


@tenants.verb("list", example="mofang tenants list", json="{items}, each: name, created_at.")
@click.pass_obj
def list_tenants(session: Session) -> None:
    """List tenants by name."""
    found = session.client.identity.list_tenants()
    now = now_us()
    rows = [(t.name, format.ago(t.created_at, now)) for t in found]
    session.answer_list(found, lambda: screen.table(("tenant", "created"), rows))
