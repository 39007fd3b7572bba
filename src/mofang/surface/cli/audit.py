"""`mofang audit`: who did what, and the proof that no record of it was touched."""

from __future__ import annotations

import click

from mofang.surface.cli import format, screen
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

audit = topic("audit", "The audit log: every control action, chained by hash.", usual="list")


@audit.verb(
    "list",
    example="mofang audit list --after 40",
    json="{items}, each: seq, at, actor (key id), action, target, details, previous, hash.",
)
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only records after this one.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many at most.")
@click.pass_obj
def list_records(session: Session, after: int, limit: int) -> None:
    """List audit records, oldest first."""
    found = [*session.client.audit.records(after=after, limit=limit)]
    rows = [(r.seq, format.moment(r.at), r.actor, r.action, r.target, r.hash[:12]) for r in found]
    heads = (">seq", "at", "actor", "action", "target", "hash")

    def draw() -> None:
        screen.table(heads, rows, empty="no records after that one")
        if len(found) == limit:
            screen.then(f"mofang audit list --after {found[-1].seq}")

    session.answer_list(found, draw)


@audit.verb("verify", example="mofang audit verify", json="One object: records (how many), head (the last one's hash).")
@click.pass_obj
def verify(session: Session) -> None:
    """Recompute the whole chain; exits 6 naming the first record that was changed, removed or reordered."""
    found = session.client.audit.verify()

    def draw() -> None:
        screen.heading(f"{format.count(found.records)} records, none of them touched")
        screen.fields([("head", found.head)])

    session.answer(found, draw)
