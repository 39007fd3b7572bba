"""`mofang prices` and `mofang quote`: what usage costs, to the micro-unit, before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mofang.base.domain.money import format_micros
from mofang.base.domain.names import now_us
from mofang.surface.cli import format, screen
from mofang.surface.cli.meter import say
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic, verb

if TYPE_CHECKING:
    from mofang.surface.sdk.bill import Price, PriceBook, Quote, Step, Terms

BOOK_JSON = (
    "version, effective_at, published_at, currency, digest, terms (each: tenant, currency, discount_ppm, "
    "minimum_micros, tax_ppm), prices (each: scope, currency, per, tiers, mode, free, whole)"
)
QUOTE_JSON = (
    "tenant, endpoint, model, variant, version, price_book, currency, discount_ppm, amount_micros, at_most_micros, "
    "meters (each: meter, quantity, estimated, priced, steps, amount_micros, at_most_micros)"
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
    rows = [row for price in book.prices for row in _price_rows(price)]
    screen.table(("  tenant", "endpoint", "model", "variant", "meter", ">units", ">price", ">for"), rows)
    terms = [(f"  {t.tenant}", t.currency, _terms(t)) for t in book.terms]
    screen.say()
    screen.table(("  tenant", "currency", "terms"), terms)
    screen.fields([("digest", book.digest)])


def _price_rows(price: Price) -> Iterator[tuple[str, ...]]:
    """Yield a row for the allowance, and one for every tier."""
    scope = price.scope
    head = (f"  {scope.tenant}", scope.endpoint, scope.model, scope.variant, scope.meter)
    if price.free:
        yield (*head, f"first {say(scope.meter, price.free)}", "free", "")
        head = ("", "", "", "", "")
    for tier in price.tiers:
        units = f"up to {say(scope.meter, tier.up_to)}" if tier.up_to else "above" if len(price.tiers) > 1 else ""
        if price.mode == "volume":
            units = f"all, if {units}"
        yield (*head, units, f"{format_micros(tier.micros)} {price.currency}", _per(price))
        head = ("", "", "", "", "")


def _per(price: Price) -> str:
    return f"{'begun ' if price.whole else ''}{say(price.scope.meter, price.per)}"


def _terms(terms: Terms) -> str:
    said = [
        f"discount {percent(terms.discount_ppm)}" if terms.discount_ppm else "",
        f"at least {format_micros(terms.minimum_micros)} {terms.currency} an invoice" if terms.minimum_micros else "",
        f"tax {percent(terms.tax_ppm)}" if terms.tax_ppm else "",
    ]
    return ", ".join(part for part in said if part) or "-"


def percent(ppm: int) -> str:
    """Write millionths as percent, exactly: ``19 %``."""
    return f"{ppm / 10_000:.4f}".rstrip("0").rstrip(".") + " %"


@verb(
    "quote",
    example="mofang quote digits --rows 1000000\nmofang quote digits --use requests=500 --use rows=20000 --tenant acme",
    json=f"One object: {QUOTE_JSON}.",
)
@click.argument("endpoint")
@click.option("--rows", type=click.IntRange(0), help="Rows, of all requests together.")
@click.option("--requests", type=click.IntRange(0), default=1, show_default=True, help="Requests.")
@click.option("--use", "uses", multiple=True, metavar="METER=UNITS", help="Any meter; may be given several times.")
@click.option("--tenant", metavar="NAME", help="Who would pay; left out: the tenant of your key.")
@click.pass_obj
def quote(
    session: Session, endpoint: str, rows: int | None, requests: int, uses: tuple[str, ...], tenant: str | None
) -> None:
    """Say what a request or a batch job will cost, before it runs."""
    quantities = {"requests": requests} | ({} if rows is None else {"rows": rows}) | dict(_uses(uses))
    found = session.client.bill.quote(endpoint, quantities, tenant=tenant)
    session.answer(found, lambda: _draw_quote(found))


def _uses(texts: Sequence[str]) -> Iterator[tuple[str, int]]:
    for text in texts:
        meter, equals, units = text.partition("=")
        if not equals or not units.isdecimal():
            raise click.BadParameter(f"{text!r} is not METER=UNITS, e.g. rows=1000", param_hint="--use")
        yield meter, int(units)


def _draw_quote(found: Quote) -> None:
    screen.heading(f"{found.endpoint} would cost {found.tenant} {found.amount} this month, before tax")
    amounts = format.amounts([meter.amount_micros for meter in found.meters])
    rows = [
        (
            f"  {m.meter}",
            say(m.meter, m.quantity),
            "estimated" if m.estimated else "",
            steps(m.steps, m.meter, found.currency) if m.priced else "free",
            f"{amount} {found.currency}",
        )
        for m, amount in zip(found.meters, amounts, strict=True)
    ]
    screen.table(("  meter", ">units", "", "price", ">amount"), rows)
    screen.fields(
        [
            ("discount", percent(found.discount_ppm) if found.discount_ppm else ""),
            ("at most", f"{found.at_most}, wherever in a month it comes"),
            ("version", f"{found.model or found.endpoint}@{found.version}"),
            ("price book", found.price_book),
        ]
    )


def steps(found: Sequence[Step], meter: str, currency: str) -> str:
    """Write how units are priced: ``1,000 free + 500 at 0.50 EUR for 1,000``."""
    parts = [
        f"{say(meter, s.quantity)} at {format_micros(s.unit_micros)} {currency} for {say(meter, s.per)}"
        if s.unit_micros
        else f"{say(meter, s.quantity)} free"
        for s in found
    ]
    return " + ".join(parts)
