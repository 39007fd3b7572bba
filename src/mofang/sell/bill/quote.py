"""What usage would cost, before it happens: of one request, or of a whole batch job.

The same prices as rating, without a ledger. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from mofang.base.domain.errors import PriceBookNotFound
from mofang.base.domain.money import Money
from mofang.sell.bill.charge import Step, charge, dearest
from mofang.sell.bill.pricebook import PPM, Price, PriceScope, PublishedBook, book_at
from mofang.sell.meter.windows import describe


@dataclass(frozen=True, slots=True)
class QuotedMeter:
    """What ``quantity`` units of one meter cost; without a price (``price`` None) they are free."""

    meter: str
    quantity: int
    price: PriceScope | None
    steps: tuple[Step, ...]
    amount_micros: int  # rounded up


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of all meters together, after the tenant's discount, before tax, and the book it is by."""

    total: Money
    price_book: int
    discount_ppm: int
    meters: tuple[QuotedMeter, ...]


def quote(
    books: Sequence[PublishedBook],
    quantities: Mapping[str, int],
    *,
    tenant: str,
    endpoint: str,
    model: str = "",
    variant: str = "",
    at: int,
    used: Mapping[str, int] | None = None,
) -> Money:
    """Return what ``quantities`` (meter -> units) of a request at ``at`` cost ``tenant``, before tax.

    With ``used``, the units of each meter that the price counted in the period so far, it is what they add to the
    invoice. Without, it is the upper bound of that, wherever in the period the request comes: the dearest tier, no
    allowance, packages as if begun. Rounded up to a micro-unit, so that the bounds of many requests are never less
    than their invoice; a budget reserves the bound of what a request may use, and settles the bound of what it used.
    An invoice's minimum is of the period, not of a request, and is not in it.

    Raises PriceBookNotFound if no book is in force at ``at``.
    """
    return quote_meters(
        books, quantities, tenant=tenant, endpoint=endpoint, model=model, variant=variant, at=at, used=used
    ).total


def quote_meters(
    books: Sequence[PublishedBook],
    quantities: Mapping[str, int],
    *,
    tenant: str,
    endpoint: str,
    model: str = "",
    variant: str = "",
    at: int,
    used: Mapping[str, int] | None = None,
) -> Quote:
    """Return :func:`quote` meter by meter."""
    book = book_at(books, at)
    if book is None:
        raise PriceBookNotFound(f"no price book is in force at {describe(at)}")
    terms = book.book.terms_of(tenant)
    exact, meters = Fraction(0), []
    for meter, quantity in sorted(quantities.items()):
        price = book.book.find(PriceScope(tenant, endpoint, model, variant, meter))
        if price is None:
            meters.append(QuotedMeter(meter, quantity, None, (), 0))
            continue
        if used is None:
            steps: tuple[Step, ...] = ()
            cost = dearest(price, quantity)
        else:
            before = used.get(meter, 0)
            steps = charge(price, quantity, before=before, total=before + quantity)
            cost = _all(price, before + quantity) - _all(price, before)
        exact += cost
        meters.append(QuotedMeter(meter, quantity, price.scope, steps, ceil(cost)))
    total = ceil(exact * Fraction(PPM - terms.discount_ppm, PPM))
    return Quote(Money(total, terms.currency), book.version, terms.discount_ppm, tuple(meters))


def _all(price: Price, quantity: int) -> Fraction:
    """Return what a whole period of ``quantity`` units costs."""
    return sum((step.exact for step in charge(price, quantity, before=0, total=quantity)), Fraction(0))


def estimate(quantities: Mapping[str, int], measured: Mapping[str, int]) -> dict[str, int]:
    """Return what ``quantities`` would use of the meters they leave out, if it is as much a row as was ``measured``.

    Without rows, as much a request. Rounded up; nothing if nothing was measured.
    """
    basis = next((meter for meter in ("rows", "requests") if quantities.get(meter) and measured.get(meter)), None)
    if basis is None:
        return {}
    return {
        meter: -(-units * quantities[basis] // measured[basis])
        for meter, units in measured.items()
        if meter not in quantities and meter not in ("rows", "requests")
    }
