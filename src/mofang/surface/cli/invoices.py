"""`mofang invoice` and `mofang parties`: from usage to a page that can be sent, and back to every event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mofang.base.domain.errors import Conflict, InvalidInvoice
from mofang.base.domain.money import Money
from mofang.surface.cli import format, screen
from mofang.surface.cli.bill import percent, steps
from mofang.surface.cli.meter import MOMENT, hours, say
from mofang.surface.cli.session import Session, plain
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.surface.sdk.bill import Invoice, InvoiceLine

INVOICE_JSON = (
    "id, kind (invoice, credit_note), number, state (draft, issued, paid, void), tenant, start, end, currency, "
    "price_books, lines (each: number, kind, start, end, price_book, scope, quantity, steps, parts, of, ppm, "
    "amount_micros), unrated, unpriced, net_micros, tax_ppm, tax_micros, total_micros, due_micros, sha256, created_at, "
    "issued_at, ended_at, credits, reason"
)
PARTY_JSON = "tenant (empty: the seller), title, address, email, tax_id, notes"

invoice = topic("invoice", "Invoices: usage times price book; any one can be made again to the byte.", usual="list")
parties = topic("parties", "Names and addresses on invoices: yours, and those of tenants.", usual="list")


@invoice.verb(
    "create",
    example="mofang invoice create\nmofang invoice create --tenant acme --from 2026-11-01 --to 2026-12-01",
    json=f"One object: {INVOICE_JSON}.",
)
@click.option("--tenant", default="default", show_default=True, help="Who pays.")
@click.option("--from", "since", metavar="WHEN", help=f"{MOMENT} Left out: this month's first day.")
@click.option("--to", "until", default="now", show_default=True, metavar="WHEN", help="Likewise, to the full hour.")
@click.pass_obj
def create(session: Session, tenant: str, since: str | None, until: str) -> None:
    """Make a tenant's invoice for a period, as a draft."""
    month = f"{datetime.now(UTC):%Y-%m}-01"
    start, end = hours(since or month, until)
    found = session.client.bill.create_invoice(tenant, start=start or 0, end=end or 0)
    session.answer(found, lambda: _draw(found))


@invoice.verb("list", example="mofang invoice list", json=f"{{items}}, each: {INVOICE_JSON}.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.pass_obj
def list_invoices(session: Session, tenant: str | None) -> None:
    """List invoices and credit notes."""
    found = session.client.bill.list_invoices(tenant=tenant)
    totals = format.amounts([i.due_micros for i in found])
    rows = [
        (
            i.id,
            i.number or "-",
            i.tenant,
            i.state,
            format.moment(i.start),
            format.moment(i.end),
            f"{total} {i.currency}",
        )
        for i, total in zip(found, totals, strict=True)
    ]
    heads = ("invoice", "number", "tenant", "state", "from", "to", ">due")
    empty = "no invoices yet; `mofang invoice create` makes one"
    session.answer_list(found, lambda: screen.table(heads, rows, empty=empty))


@invoice.verb("show", example="mofang invoice show inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def show_invoice(session: Session, id: str) -> None:
    """Show an invoice line by line."""
    found = session.client.bill.get_invoice(id)
    session.answer(found, lambda: _draw(found))


@invoice.verb("issue", example="mofang invoice issue inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def issue(session: Session, id: str) -> None:
    """Make a draft final, once its period has ended: it gets the next number."""
    found = session.client.bill.issue_invoice(id)
    session.answer(found, lambda: _draw(found))


@invoice.verb("pay", example="mofang invoice pay inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def pay(session: Session, id: str) -> None:
    """Note that an invoice was paid, or that the money of a credit note went back."""
    found = session.client.bill.pay_invoice(id)
    session.answer(found, lambda: _draw(found))


@invoice.verb("void", example="mofang invoice void inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def void(session: Session, id: str) -> None:
    """Make a draft or an unpaid invoice void; its number stays taken."""
    found = session.client.bill.void_invoice(id)
    session.answer(found, lambda: _draw(found))


@invoice.verb(
    "credit",
    example='mofang invoice credit inv_01k9 --reason "outage of 12 November" --line 1=2.50',
    json=f"One object, the credit note: {INVOICE_JSON}.",
)
@click.argument("id")
@click.option("--reason", required=True, help="Printed on the credit note.")
@click.option("--line", "lines", multiple=True, metavar="N=AMOUNT", help="What to give back, before tax; else all.")
@click.pass_obj
def credit(session: Session, id: str, reason: str, lines: tuple[str, ...]) -> None:
    """Issue a credit note for an issued or paid invoice: a refund, once the money went back and it is `paid`."""
    chosen: dict[int, int] = {}
    for text in lines:
        number, equals, amount = text.partition("=")
        if not equals or not number.isdecimal():
            raise click.BadParameter(f"{text!r} is not N=AMOUNT, e.g. 1=2.50", param_hint="--line")
        chosen[int(number)] = chosen.get(int(number), 0) + Money.parse(amount, "XXX").micros
    found = session.client.bill.credit_invoice(id, reason, chosen or None)
    session.answer(found, lambda: _draw(found))


@invoice.verb(
    "verify",
    example="mofang invoice verify inv_01k9",
    json="One object: id, matches, events_match, sha256, recomputed_sha256.",
)
@click.argument("id")
@click.pass_obj
def verify(session: Session, id: str) -> None:
    """Make an invoice again from usage and prices, compare it to the byte, count its events; exits 6 if they differ."""
    found = session.client.bill.verify_invoice(id)
    session.answer(
        found, lambda: screen.heading(f"invoice {id}: {'the same' if found.matches else 'NOT the same'} to the byte")
    )
    if not session.as_json:
        events = "add up to its sums" if found.events_match else "do NOT add up to its sums"
        screen.fields([("as stored", found.sha256), ("recomputed", found.recomputed_sha256), ("its events", events)])
    if not found.matches:
        raise _mismatch(session.client.bill.get_invoice(id))
    if not found.events_match:
        raise Conflict(f"the events of invoice {id} are not what its sums say", hint="`mofang audit verify --usage`")


@invoice.verb(
    "trace",
    example="mofang invoice trace inv_01k9 1\nmofang --json invoice trace inv_01k9 1 > events.jsonl",
    json="One usage event a line, as `mofang usage events` writes them.",
)
@click.argument("id")
@click.argument("line", type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1), help="How many at most; 20 for a table, else all.")
@click.pass_obj
def trace(session: Session, id: str, line: int, limit: int | None) -> None:
    """List the events that a line of an invoice comes from."""
    events = session.client.bill.trace_line(id, line, limit=limit or (None if session.as_json else 20))
    if session.as_json:
        for event in events:
            click.echo(json.dumps(plain(event), ensure_ascii=False))
        return
    wanted = next((one for one in session.client.bill.get_invoice(id).lines if one.number == line), None)
    if wanted is None:
        raise InvalidInvoice(f"invoice {id} has no line {line}")
    rows = [
        (format.moment(e.at), e.request_id, e.project, e.endpoint, e.version, say(e.meter, e.quantity)) for e in events
    ]
    screen.heading(f"line {line} of {id}: {say(wanted.scope.meter, wanted.quantity)} of {wanted.scope.meter}")
    heads = ("at", "request", "project", "endpoint", ">version", ">quantity")
    screen.table(heads, rows, empty="no events: the line comes from other lines")


@invoice.verb(
    "print",
    example="mofang invoice print inv_01k9 -o invoice.html\nmofang invoice print inv_01k9 --form csv",
    json="The document itself, in whatever form was asked for.",
)
@click.argument("id")
@click.option(
    "--form", type=click.Choice(["html", "csv", "json", "focus"]), default="html", show_default=True, help="As what."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; left out: the screen.")
@click.pass_obj
def print_invoice(session: Session, id: str, form: str, output: Path | None) -> None:
    """Write an invoice as a page to print, as a table, as its canonical JSON, or as FOCUS 1.2."""
    text = session.client.bill.invoice_document(id, form)  # type: ignore[arg-type]
    if output is None:
        click.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8", newline="")
    session.answer({"file": str(output)}, lambda: screen.heading(f"invoice {id} is in {output}"))


@parties.verb("list", example="mofang parties", json=f"{{items}}, each: {PARTY_JSON}.")
@click.pass_obj
def list_parties(session: Session) -> None:
    """List who stands on invoices."""
    found = session.client.bill.list_parties()
    rows = [(p.tenant or "(seller)", p.title, p.address.replace("\n", ", "), p.email, p.tax_id) for p in found]
    empty = "nobody yet; `mofang parties set --title NAME` says who you are"
    session.answer_list(
        found, lambda: screen.table(("tenant", "title", "address", "email", "tax id"), rows, empty=empty)
    )


@parties.verb(
    "set",
    example=(
        'mofang parties set --title "Model Works GmbH" --notes "Payable within 14 days to DE00 0000."\n'
        'mofang parties set --tenant acme --title "Acme Ltd" --address "1 High St\\nLondon"'
    ),
    json=f"One object: {PARTY_JSON}.",
)
@click.option("--tenant", default="", metavar="NAME", help="Whose; left out: the seller's, which is yours.")
@click.option("--title", default="", help="The legal name.")
@click.option("--address", default="", help=r"Lines with \n between them.")
@click.option("--email", default="", help="Where to write to.")
@click.option("--tax-id", default="", help="The number for tax.")
@click.option("--notes", default="", help="At the foot of what the seller sends: how to pay.")
@click.pass_obj
def set_party(session: Session, tenant: str, title: str, address: str, email: str, tax_id: str, notes: str) -> None:
    """Say who stands on invoices, in place of what was said before."""
    from mofang.surface.sdk.bill import Party  # httpx: not for `--help`

    lines = (text.replace("\\n", "\n") for text in (address, notes))
    found = session.client.bill.set_party(Party(tenant, title, next(lines), email, tax_id, next(lines)))
    session.answer(found, lambda: screen.heading(f"invoices now say {found.title!r} for {tenant or 'the seller'}"))


def _mismatch(invoice: Invoice) -> Conflict:
    """Tell a draft that usage has overtaken from an invoice that someone changed."""
    if invoice.state == "draft":
        return Conflict(
            f"draft {invoice.id} is out of date: usage or prices came since",
            hint=f"make it again: `mofang invoice create --tenant {invoice.tenant}`",
        )
    return Conflict(
        f"invoice {invoice.id} is not what its usage and prices make",
        hint="`mofang audit verify` tells whether a record was changed; `mofang prices list` shows later books",
    )


def _draw(found: Invoice) -> None:
    word = "owes" if found.kind == "invoice" else "gets back"
    money = found.total if found.kind == "invoice" else Money(-found.total_micros, found.currency)
    name = found.number or found.id
    screen.heading(f"{found.kind.replace('_', ' ')} {name} ({found.state}): {found.tenant} {word} {money}")
    screen.fields([("period", f"{format.moment(found.start)} to {format.moment(found.end)}"), ("reason", found.reason)])
    screen.say()
    totals = (found.net_micros, found.tax_micros, found.total_micros)
    amounts = format.amounts([line.amount_micros for line in found.lines] + [*totals])
    rows = [
        (f"  {n.number}", _what(n), say(n.scope.meter, n.quantity) if n.quantity else "",
         steps(n.steps, n.scope.meter, found.currency), f"{amount} {found.currency}")
        for n, amount in zip(found.lines, amounts, strict=False)
    ]  # fmt: skip
    sums = ("net", f"tax {percent(found.tax_ppm)}", "total")
    rows += [("", name, "", "", f"{amount} {found.currency}") for name, amount in zip(sums, amounts[-3:], strict=True)]
    screen.table(("  line", "what", ">used", "price", ">amount"), rows)
    free = sorted({line.meter for line in found.unrated})
    screen.fields(
        [
            ("due", found.due if found.due_micros != found.total_micros else ""),
            ("free", ", ".join(free)),
            ("unpriced", ", ".join(found.unpriced) and f"endpoints {', '.join(found.unpriced)} have no price at all"),
            ("id", found.id if found.number else ""),
            ("sha256", found.sha256),
        ]
    )
    if found.state == "draft":
        screen.then(f"mofang invoice verify {found.id}", f"mofang invoice issue {found.id}")
    else:
        screen.then(f"mofang invoice print {found.id} -o {found.number or found.id}.html")


def _what(line: InvoiceLine) -> str:
    scope = line.scope
    where = [name for name in (scope.endpoint, scope.model, scope.variant) if name != "*"]
    meter = " ".join([scope.meter, *where]).strip()
    if line.kind == "discount":
        return f"discount {percent(line.ppm)}"
    if line.kind == "credit":
        return f"credit for line {line.of[0]} {meter}".rstrip()
    if line.kind == "adjustment":
        return f"adjustment from {format.moment(line.start)} {meter}".rstrip()
    return meter or line.kind
