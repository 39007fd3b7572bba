"""`mofang usage`: what was used, summed or event by event."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from mofang.base.domain.errors import LedgerBroken
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.base.domain.usage import UsageEvent
    from mofang.surface.sdk.meter import UsageRow

COLUMNS = (
    "tenant", "project", "key_id", "endpoint", "revision", "version", "digest", "variant", "outcome", "source",
    "hour", "day", "month",
)  # fmt: skip
EVENT_FIELDS = (
    "event_id", "request_id", "at", "tenant", "project", "key_id", "endpoint", "revision", "version", "digest",
    "variant", "outcome", "source", "meter", "quantity",
)  # fmt: skip
MOMENT = "A date, a time (UTC) or a span before now, e.g. 2026-11-01 or 24h."

usage = topic("usage", "Usage: every answer is counted once, under the digest that made it.", usual="summary")


@usage.verb(
    "summary",
    example="mofang usage\nmofang usage --by project,endpoint,digest --from 24h",
    json="One object: start, end (microseconds or null), items, each: by (the columns), quantities (meter: units).",
)
@click.option("--by", default="endpoint,version,digest", show_default=True, metavar="COLUMNS", help=", ".join(COLUMNS))
@click.option("--from", "since", metavar="WHEN", help=MOMENT)
@click.option("--to", "until", metavar="WHEN", help="Likewise; whole hours are counted.")
@click.option("--project", metavar="NAME", help="Only this project's.")
@click.option("--endpoint", metavar="NAME", help="Only this endpoint's.")
@click.pass_obj
def summary(
    session: Session, by: str, since: str | None, until: str | None, project: str | None, endpoint: str | None
) -> None:
    """Sum usage by any columns."""
    columns = [column.strip() for column in by.split(",") if column.strip()]
    start, end = hours(since, until)
    found = session.client.meter.usage(columns, start=start, end=end, project=project, endpoint=endpoint)

    def draw() -> None:
        period = f"from {format.moment(start)}" if start else "so far"
        screen.heading(f"usage {period}" + (f" to {format.moment(end)}" if end else ""))
        _draw_rows(columns, found.items)
        screen.then("mofang invoice create", "mofang usage events --format jsonl")

    session.answer(found, draw)


def hours(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    """Read a period and widen it to whole hours, the grain of sums and invoices."""
    now, hour = now_us(), 3_600_000_000
    start = format.parse_moment(since, now) // hour * hour if since else None
    end = -(-format.parse_moment(until, now) // hour) * hour if until else None
    return start, end


def _draw_rows(columns: Sequence[str], rows: Sequence[UsageRow]) -> None:
    meters = [*dict.fromkeys(meter for row in rows for meter in row.quantities)]
    heads = [*columns, *(f">{_title(meter)}" for meter in meters)]
    cells = [
        [
            *(_column(name, row.by.get(name, "")) for name in columns),
            *(say(m, row.quantities.get(m, 0)) for m in meters),
        ]
        for row in rows
    ]
    screen.table(heads, cells, empty="nothing was used yet; `mofang predict ENDPOINT` is counted")


def _title(meter: str) -> str:
    return {"compute_us": "compute", "input_bytes": "in", "output_bytes": "out"}.get(meter, meter.replace("_", " "))


def _column(name: str, value: str | int) -> str:
    return format.short_digest(str(value)) if name == "digest" else str(value)


def say(meter: str, quantity: int) -> str:
    """Write a quantity with the unit of its meter."""
    if meter.endswith("_us"):
        return format.duration(quantity / 1e6)
    return format.size(quantity) if meter.endswith("_bytes") else format.count(quantity)


@usage.verb(
    "events",
    example="mofang usage events --format jsonl --limit 10\nmofang usage events --format csv > usage.csv\n"
    "mofang usage events --format cloudevents > usage.jsonl",
    json=f"Like --format jsonl, one object a line: {', '.join(EVENT_FIELDS)}.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv", "cloudevents"]),
    default="table",
    help="How to write them.",
)
@click.option("--after", metavar="CURSOR", help="Only those after this place in the ledger.")
@click.option("--project", metavar="NAME", help="Only this project's.")
@click.option("--endpoint", metavar="NAME", help="Only this endpoint's.")
@click.option("--limit", type=click.IntRange(1), help="How many at most; 20 for a table, else all.")
@click.pass_obj
def events(
    session: Session, form: str, after: str | None, project: str | None, endpoint: str | None, limit: int | None
) -> None:
    """List usage events in the order of the ledger, one for every meter of every answer."""
    form = "jsonl" if session.as_json else form
    most = limit or (20 if form == "table" else None)
    found = session.client.meter.events(after=after, project=project, endpoint=endpoint, limit=most)
    if form == "jsonl":
        for event in found:
            click.echo(json.dumps(plain(event), ensure_ascii=False))
    elif form == "cloudevents":
        for event in found:
            click.echo(json.dumps(cloud_event(event), ensure_ascii=False))
    elif form == "csv":
        _write_csv(plain(event) for event in found)
    else:
        _draw_events([*found])


@usage.verb(
    "focus",
    example="mofang usage focus --from 2026-11-01 --to 2026-12-01 > focus.csv",
    json="The table itself: FOCUS is CSV.",
)
@click.option("--from", "since", metavar="WHEN", required=True, help=MOMENT)
@click.option("--to", "until", metavar="WHEN", default="now", help="Likewise; left out: now. Whole hours are counted.")
@click.option("--tenant", metavar="NAME", help="Whose; left out: the key's own.")
@click.pass_obj
def focus(session: Session, since: str, until: str, tenant: str | None) -> None:
    """Write usage and what it costs in the FinOps format FOCUS 1.2 (CSV)."""
    start, end = hours(since, until)
    assert start is not None
    assert end is not None
    click.echo(session.client.bill.focus(start, end, tenant=tenant), nl=False)


@usage.verb(
    "reconcile",
    example="mofang usage reconcile",
    json="One object: since (microseconds), items, each: endpoint, tenant, meter, counted, ledger, difference.",
)
@click.pass_obj
def reconcile(session: Session) -> None:
    """Compare the ledger with what engines counted by themselves."""
    found = session.client.meter.reconcile()
    unbilled = [each for each in found.items if each.difference > 0]
    invented = [each for each in found.items if each.difference < 0]

    def draw() -> None:
        screen.heading(
            f"counted by engines since {format.moment(found.since)}" if found.since else "counted by engines"
        )
        heads = ("endpoint", "tenant", "meter", ">counted", ">ledger", ">difference")
        rows = [(e.endpoint, e.tenant, e.meter, *(format.count(n) for n in (e.counted, e.ledger, e.difference)))
                for e in found.items]  # fmt: skip
        screen.table(heads, rows, empty="nothing was used yet; `mofang predict ENDPOINT` is counted")
        if unbilled:
            screen.say("above zero: computed and not billed, as of requests that broke off or are under way")
        if not unbilled and not invented:
            screen.say("no difference: what was billed is what was computed")

    session.answer(found, draw)
    if invented:
        worst = min(invented, key=lambda each: each.difference)
        raise LedgerBroken(
            f"the ledger has {-worst.difference} {worst.meter} more of {worst.tenant!r} at endpoint {worst.endpoint!r}"
            " than engines computed"
        )


def cloud_event(event: UsageEvent) -> dict[str, object]:
    """Return ``event`` as a CloudEvent 1.0 in JSON: ``source`` and ``id`` together name it for ever."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=event.at)
    return {
        "specversion": "1.0",
        "id": event.event_id,
        "source": f"/mofang/{event.tenant}/{event.project}",
        "type": "mofang.usage",
        "subject": event.endpoint,
        "time": at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": plain(event),
    }


def _write_csv(rows: Iterable[Mapping[str, object]]) -> None:
    writer = csv.DictWriter(sys.stdout, EVENT_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _draw_events(found: Sequence[UsageEvent]) -> None:
    rows = [
        (
            format.moment(e.at),
            e.request_id,
            e.project,
            e.endpoint,
            e.version,
            e.outcome,
            e.meter,
            say(e.meter, e.quantity),
        )
        for e in found
    ]
    heads = ("at", "request", "project", "endpoint", ">version", "outcome", "meter", ">quantity")
    screen.table(heads, rows, empty="nothing was used yet; `mofang predict ENDPOINT` is counted")
