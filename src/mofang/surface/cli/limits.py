"""`mofang limits`: how much a key, a project or a tenant may ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.base.domain.access import AccessLimits, LimitScope

LIMITS_JSON = (
    "scope, name, requests_per_minute, rows_per_minute, tokens_per_minute, concurrency, payload_bytes "
    "(null: not limited)"
)

limits = topic("limits", "How much a key, a project or a tenant may ask; over it, a request is refused.", usual="show")


@limits.verb(
    "set",
    example="mofang limits set --project shop --requests-per-minute 600 --concurrency 8\n"
    "mofang limits set --project shop",
    json=f"One object: {LIMITS_JSON}.",
)
@click.option("--project", metavar="NAME", help="All keys of a project together.")
@click.option("--tenant", metavar="NAME", help="All projects of a tenant together.")
@click.option("--key-id", metavar="ID", help="One key.")
@click.option("--requests-per-minute", type=click.IntRange(1), metavar="N", help="A minute's worth can come at once.")
@click.option("--rows-per-minute", type=click.IntRange(1), metavar="N", help="Rows of all requests together.")
@click.option("--tokens-per-minute", type=click.IntRange(1), metavar="N", help="Read and written by language models.")
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Requests under way at the same time.")
@click.option("--payload-bytes", type=click.IntRange(1), metavar="N", help="Size of one request's body.")
@click.pass_obj
def set_limits(
    session: Session,
    project: str | None,
    tenant: str | None,
    key_id: str | None,
    requests_per_minute: int | None,
    rows_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: int | None,
    payload_bytes: int | None,
) -> None:
    """Set the limits of one key, project or tenant; what is left out is not limited any more."""
    scope, name = target(project, tenant, key_id)
    found = session.client.identity.set_limits(
        scope,
        name,
        requests_per_minute=requests_per_minute,
        rows_per_minute=rows_per_minute,
        tokens_per_minute=tokens_per_minute,
        concurrency=concurrency,
        payload_bytes=payload_bytes,
    )

    def draw() -> None:
        screen.heading(f"{scope} {name} is held to these limits by every gateway from now on")
        screen.table(HEADS, [_row(found)])

    session.answer(found, draw)


@limits.verb("show", example="mofang limits show", json=f"{{items}}, each: {LIMITS_JSON}.")
@click.pass_obj
def show(session: Session) -> None:
    """Show the limits that are set."""
    found = session.client.identity.list_limits()
    empty = "nothing is limited; `mofang limits set --project P --requests-per-minute N` limits a project"
    session.answer_list(found, lambda: screen.table(HEADS, [_row(each) for each in found], empty=empty))


@limits.verb(
    "weigh",
    example="mofang limits weigh acme 200\nmofang limits weigh",
    json="{items}, each: tenant, weight (percent of the usual share).",
)
@click.argument("tenant", required=False)
@click.argument("weight", type=click.IntRange(1, 10_000), required=False)
@click.pass_obj
def weigh(session: Session, tenant: str | None, weight: int | None) -> None:
    """Give TENANT a share of WEIGHT percent of the usual one, where several want an engine; or show the shares."""
    if tenant is not None:
        if weight is None:
            raise click.UsageError("say how much: `mofang limits weigh acme 200` is twice the usual share")
        session.client.identity.set_weight(tenant, weight)
    found = session.client.identity.list_weights()
    rows = [(each.tenant, f"{each.weight} %") for each in found]
    session.answer_list(found, lambda: screen.table(("tenant", ">share"), rows))


HEADS = ("scope", "name", ">requests/min", ">rows/min", ">tokens/min", ">concurrent", ">payload")


def _row(each: AccessLimits) -> tuple[str, ...]:
    numbers = (each.requests_per_minute, each.rows_per_minute, each.tokens_per_minute, each.concurrency)
    payload = "-" if each.payload_bytes is None else format.size(each.payload_bytes)
    return (each.scope, each.name, *("-" if n is None else format.count(n) for n in numbers), payload)


def target(project: str | None, tenant: str | None, key_id: str | None) -> tuple[LimitScope, str]:
    """Return what is to be limited; a usage error unless exactly one is named."""
    named: list[tuple[LimitScope, str | None]] = [("project", project), ("tenant", tenant), ("key", key_id)]
    given = [(scope, name) for scope, name in named if name]
    if len(given) != 1:
        raise click.UsageError("name one of --project, --tenant and --key-id")
    return given[0]
