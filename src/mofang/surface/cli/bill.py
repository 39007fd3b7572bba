"""`mofang prices` and `mofang invoice`: what usage costs, to the micro-unit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mofang.base.domain.errors import Conflict
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.meter import MOMENT, hours, say
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.surface.sdk.bill import Invoice, PriceBook

BOOK_JSON = "version, effective_at, published_at, currency, digest, prices (each: endpoint, meter, per, amount_micros)"
INVOICE_JSON = (
    "id, tenant, state (draft, issued), start, end, currency, price_books, lines (each: endpoint, version, digest, "
    "meter, price_book, quantity, per, unit_micros, amount_micros), unrated, unpriced, total_micros, sha256, created_at"
)

prices = topic("prices", "The price book: what each meter costs, numbered and immutable.", usual="show")


@prices.verb("show", example="mofang prices", json=f"One object: {BOOK_JSON}.")
@click.pass_obj
def show_prices(session: Session) -> None:
    """Show the price book in force."""
    book = session.client.bill.current_prices()
    session.answer(book, lambda: _draw_book(book, "in force"))


@prices.verb("list", example="mofang prices list", json=f"{{items}}, each: {BOOK_JSON}.")
@click.pass_obj
def list_prices(session: Session) -> None:
    """List every price book, newest first."""
    found = session.client.bill.list_prices()
    rows = [
        (b.version, b.currency, len(b.prices), format.moment(b.effective_at), format.short_digest(b.digest))
        for b in found
    ]
    heads = (">book", "currency", ">prices", "in force from", "digest")
    empty = "no price book yet; `mofang prices set FILE` publishes one"
    session.answer_list(found, lambda: screen.table(heads, rows, empty=empty))


@prices.verb("set", example="mofang prices set examples/prices.toml", json=f"One object: {BOOK_JSON}.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "since", metavar="WHEN", help="In force from the hour of then; left out: this hour.")
@click.pass_obj
def set_prices(session: Session, file: Path, since: str | None) -> None:
    """Publish a price book (TOML); what was published before stays as it is."""
    effective = format.parse_moment(since, now_us()) if since else None
    book = session.client.bill.set_prices(file, effective_at=effective)
    session.answer(book, lambda: _draw_book(book, "published"))


def _draw_book(book: PriceBook, word: str) -> None:
    screen.heading(f"price book {book.version}, {word}, from {format.moment(book.effective_at)}")
    amounts = format.amounts([price.amount_micros for price in book.prices])
    rows = [
        (f"  {p.endpoint}", p.meter, f"{amount} {book.currency}", f"for {say(p.meter, p.per)}")
        for p, amount in zip(book.prices, amounts, strict=True)
    ]
    screen.table(("  endpoint", "meter", ">price", ">units"), rows)
    screen.fields([("digest", book.digest)])


invoice = topic("invoice", "Invoices: usage times price book; any one can be made again to the byte.", usual="list")


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
    session.answer(found, lambda: _draw_invoice(found))


@invoice.verb("list", example="mofang invoice list", json=f"{{items}}, each: {INVOICE_JSON}.")
@click.option("--tenant", metavar="NAME", help="Only this tenant's.")
@click.pass_obj
def list_invoices(session: Session, tenant: str | None) -> None:
    """List invoices."""
    found = session.client.bill.list_invoices(tenant=tenant)
    totals = format.amounts([i.total_micros for i in found])
    rows = [
        (i.id, i.tenant, i.state, format.moment(i.start), format.moment(i.end), f"{total} {i.currency}")
        for i, total in zip(found, totals, strict=True)
    ]
    heads = ("invoice", "tenant", "state", "from", "to", ">total")
    empty = "no invoices yet; `mofang invoice create` makes one"
    session.answer_list(found, lambda: screen.table(heads, rows, empty=empty))


@invoice.verb("show", example="mofang invoice show inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def show_invoice(session: Session, id: str) -> None:
    """Show an invoice line by line."""
    found = session.client.bill.get_invoice(id)
    session.answer(found, lambda: _draw_invoice(found))


@invoice.verb("issue", example="mofang invoice issue inv_01k9", json=f"One object: {INVOICE_JSON}.")
@click.argument("id")
@click.pass_obj
def issue(session: Session, id: str) -> None:
    """Make a draft final, once its period has ended."""
    found = session.client.bill.issue_invoice(id)
    session.answer(found, lambda: _draw_invoice(found))


@invoice.verb(
    "verify", example="mofang invoice verify inv_01k9", json="One object: id, matches, sha256, recomputed_sha256."
)
@click.argument("id")
@click.pass_obj
def verify(session: Session, id: str) -> None:
    """Make an invoice again from its usage and prices, and compare it to the byte; exits 6 if it differs."""
    found = session.client.bill.verify_invoice(id)
    session.answer(
        found, lambda: screen.heading(f"invoice {id}: {'the same' if found.matches else 'NOT the same'} to the byte")
    )
    if not session.as_json:
        screen.fields([("as stored", found.sha256), ("recomputed", found.recomputed_sha256)])
    if not found.matches:
        raise _mismatch(session.client.bill.get_invoice(id))


def _mismatch(invoice: Invoice) -> Conflict:
    """Tell a draft that usage has overtaken from an invoice that someone changed."""
    if invoice.state == "draft" and invoice.end > now_us():
        return Conflict(
            f"draft {invoice.id} is out of date: its period ends {format.moment(invoice.end)}, and usage came since",
            hint=f"make it again: `mofang invoice create --tenant {invoice.tenant}`",
        )
    return Conflict(
        f"invoice {invoice.id} is not what its usage and prices make",
        hint="`mofang audit verify` tells whether a record was changed; `mofang prices list` shows later books",
    )


def _draw_invoice(found: Invoice) -> None:
    screen.heading(f"invoice {found.id} ({found.state}): {found.tenant} owes {found.total}")
    screen.fields([("period", f"{format.moment(found.start)} to {format.moment(found.end)}")])
    screen.say()
    amounts = format.amounts([line.amount_micros for line in found.lines] + [found.total_micros])
    units = format.amounts([line.unit_micros for line in found.lines])
    rows = [
        (f"  {n.endpoint}", n.version, format.short_digest(n.digest), n.meter, say(n.meter, n.quantity), unit,
         f"for {say(n.meter, n.per)}", f"{amount} {found.currency}")
        for n, unit, amount in zip(found.lines, units, amounts, strict=False)
    ]  # fmt: skip
    total = ("  total", "", "", "", "", "", "", f"{amounts[-1]} {found.currency}")
    screen.table(("  endpoint", ">version", "digest", "meter", ">used", ">price", ">units", ">amount"), [*rows, total])
    free = sorted({line.meter for line in found.unrated})
    screen.fields(
        [
            ("free", ", ".join(free)),
            ("unpriced", ", ".join(found.unpriced) and f"endpoints {', '.join(found.unpriced)} have no price at all"),
            ("sha256", found.sha256),
        ]
    )
    screen.then(f"mofang invoice verify {found.id}")
