"""`mofang audit`: who did what, and the proof that no record of it was touched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mofang.base.domain.errors import Forbidden, Invalid
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.meter import MOMENT
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

RECORD_JSON = "seq, at, actor (id of a key or user), action, target, address, details, erased, previous, hash"
if TYPE_CHECKING:
    from mofang.surface.sdk.audit import AuditRecord

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

audit = topic("audit", "The audit log: every control action, chained by hash, under a signed tree.", usual="list")


@audit.verb(
    "list",
    example="mofang audit list --after 40\nmofang audit list --action key --target HrX9EMlTYm --from 7d",
    json=f"{{items}}, each: {RECORD_JSON}.",
)
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQ", help="Only records after this one.")
@click.option("--actor", metavar="ID", help="Who.")
@click.option("--action", metavar="WORD", help="What: key.create, or key for everything about keys.")
@click.option("--target", metavar="NAME", help="Which thing.")
@click.option("--from", "since", metavar="WHEN", help=MOMENT)
@click.option("--to", "until", metavar="WHEN", help="Likewise.")
@click.option("--all", "folds", is_flag=True, help="What the settler recorded about usage as well.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many at most.")
@click.pass_obj
def list_records(
    session: Session,
    after: int,
    actor: str | None,
    action: str | None,
    target: str | None,
    since: str | None,
    until: str | None,
    folds: bool,
    limit: int,
) -> None:
    """Search audit records, oldest first."""
    now = now_us()
    start, end = (format.parse_moment(text, now) if text else None for text in (since, until))
    records = session.client.audit.records(
        after=after,
        limit=limit,
        actor=actor,
        action=action,
        target=target,
        start=start,
        end=end,
        folds=folds,
    )
    found = [*records]
    rows = [
        (r.seq, format.moment(r.at), _word(r, "actor"), r.address or "-", r.action, _word(r, "target"), r.hash[:12])
        for r in found
    ]
    heads = (">seq", "at", "actor", "from", "action", "target", "hash")

    def draw() -> None:
        screen.table(heads, rows, empty="no records after that one")
        if len(found) == limit:
            screen.then(f"mofang audit list --after {found[-1].seq}")

    session.answer_list(found, draw)


def _word(record: AuditRecord, name: str) -> str:
    return "(erased)" if name in record.erased else str(getattr(record, name))


@audit.verb(
    "verify",
    example=(
        "mofang audit verify --usage\nmofang audit verify --file audit.jsonl --public-key audit.pub --heads heads.jsonl"
    ),
    json="One object: records (how many), head (the last one's hash), root, erased, usage (events, folds) or null.",
)
@click.option("--usage", is_flag=True, help="The ledger as well: every event against what the log saw.")
@click.option("--file", "export", type=FILE, help="Verify an export, without a server.")
@click.option("--public-key", type=FILE, help="With --file: what heads must be signed by.")
@click.option("--heads", type=FILE, help="With --file: heads that were kept elsewhere.")
@click.pass_obj
def verify(session: Session, usage: bool, export: Path | None, public_key: Path | None, heads: Path | None) -> None:
    """Recompute the whole log; exits 6 naming the first record that was changed, removed, inserted or moved."""
    if export is None:
        if public_key or heads:
            raise Invalid("--public-key and --heads are for --file", hint="`mofang audit export -o FILE` makes one")
        found = session.client.audit.verify(usage=usage)
        counted = found.usage
        session.answer(found, lambda: _draw(found.records, found.head, found.root, found.erased))
        if counted and not session.as_json:
            screen.fields([("usage", f"{format.count(counted.events)} events, as the log saw them")])
        return
    from mofang.base.audit.files import verify_file  # cryptography: not for `--help`

    offline = verify_file(export, public_key.read_text("utf-8") if public_key else "", heads)
    session.answer(offline, lambda: _draw(offline.records, offline.head, offline.root, offline.erased))
    if not session.as_json:
        screen.fields([("signed", "by that key" if public_key else "not checked: --public-key"),
                       ("anchors", f"{offline.anchors} heads agree" if heads else "none: --heads")])  # fmt: skip


def _draw(records: int, head: str, root: str, erased: int) -> None:
    screen.heading(f"{format.count(records)} records, none of them touched")
    screen.fields([("head", head), ("root", root), ("erased", f"{erased} records lost words" if erased else "")])


@audit.verb(
    "export",
    example="mofang audit export -o audit.jsonl",
    json="One object: file, records. The file has JSON lines: {record} each, {head} at the end.",
)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file.")
@click.pass_obj
def export(session: Session, output: Path) -> None:
    """Write all records, or those that concern your tenant, to a file that anyone can verify without a server."""
    from mofang.base.audit.files import export_lines, part_lines

    audit, head = session.client.audit, session.client.audit.head()
    if _sees_everything(session):
        lines = export_lines((record for record in audit.export() if record.seq <= head.size), head)
    else:
        lines = part_lines(audit.export_proved(), head)
    with output.open("w", encoding="utf-8") as file:
        written = -1  # the head
        for line in lines:
            file.write(line)
            written += 1
    answer = {"file": str(output), "records": written}

    def draw() -> None:
        screen.heading(f"{format.count(written)} records are in {output}")
        screen.then(f"mofang audit verify --file {output}")

    session.answer(answer, draw)


def _sees_everything(session: Session) -> bool:
    try:
        return session.client.users.who_am_i().reach == "platform"
    except Forbidden:  # a key for the audit log alone: what is proved record by record is good for everybody
        return False


@audit.verb("key", example="mofang audit key > audit.pub", json="One object: public_key (PEM).")
@click.pass_obj
def key(session: Session) -> None:
    """Print the public key that heads of the log are signed with."""
    pem = session.client.audit.public_key()
    session.answer({"public_key": pem}, lambda: click.echo(pem, nl=False))


@audit.verb(
    "prove",
    example="mofang audit prove 12\nmofang audit prove --since 100",
    json="A record: seq, hash, path, head. Growth: first, first_root, path, head (size, root, last, at, signature).",
)
@click.argument("seq", type=click.IntRange(1), required=False)
@click.option("--since", type=click.IntRange(1), metavar="SIZE", help="Prove that the log only grew since then.")
@click.pass_obj
def prove(session: Session, seq: int | None, since: int | None) -> None:
    """Prove, by a few hashes and a signature, that a record is in the log, or that the log only grew."""
    if (seq is None) == (since is None):
        raise Invalid("name a record, or --since SIZE", hint="`mofang audit prove 12`")
    if seq is not None:
        found = session.client.audit.prove(seq)
        what = f"record {seq} is in the log of {format.count(found.head.size)} records"
        session.answer(found, lambda: _draw_proof(what, (("hash", found.hash),), found.path, found.head.root))
    else:
        grown = session.client.audit.prove_growth(since or 0)
        what = f"the log of {format.count(grown.head.size)} records begins with that of {since}"
        first = (("then", grown.first_root),)
        session.answer(grown, lambda: _draw_proof(what, first, grown.path, grown.head.root))


def _draw_proof(what: str, first: tuple[tuple[str, str], ...], path: tuple[str, ...], root: str) -> None:
    screen.heading(f"{what}: proved")
    screen.fields([*first, ("path", "\n".join(path)), ("root", root)])


@audit.verb(
    "erase",
    example="mofang audit erase alice@example.com",
    json="One object: record (of the erasure), records, words, party, user.",
)
@click.argument("subject")
@click.pass_obj
def erase(session: Session, subject: str) -> None:
    """Remove a user, or a name, and every word of the log that tells of it; the log can be verified as before."""
    found = session.client.audit.erase(subject)

    def draw() -> None:
        screen.heading(f"{found.words} words in {found.records} records are gone; record {found.record} tells so")
        screen.fields(
            [
                ("user", "removed, with roles and sessions" if found.user else ""),
                ("invoices", "name and address are gone" if found.party else ""),
            ]
        )
        screen.then("mofang audit verify")

    session.answer(found, draw)
