"""What budgets need to know of prices: the most that units cost a tenant now. Pure, handed to budgets from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import get_args

from mofang.base.domain.budget import Tariff
from mofang.base.domain.deployment import Revision
from mofang.base.domain.usage import Meter
from mofang.sell.bill.pricebook import PPM, PriceBook, PriceScope, PublishedBook, book_at
from mofang.sell.bill.rating import UNKNOWN, Origin, Served, Tell


def tariffs_at(books: Sequence[PublishedBook], at: int, origins: Tell) -> Callable[[str, Revision], Tariff | None]:
    """Return from whom and what is asked to the tariff at ``at``, by the book in force then; None without one."""
    published = book_at(books, at)

    def tariff(tenant: str, revision: Revision) -> Tariff | None:
        if published is None:
            return None
        version = Served(revision.endpoint, revision.digest, revision.version)
        origin = origins({version}).get(version, UNKNOWN)
        return ceiling(published.book, tenant, revision.endpoint, origin)

    return tariff


def ceiling(book: PriceBook, tenant: str, endpoint: str, origin: Origin) -> Tariff:
    """Return the most that units of each meter cost, wherever in a period they come.

    The dearest tier, without the allowance, less the tenant's discount, before tax. No sum of requests costs more on
    the invoice; of packages it can, by the one that was begun last.
    """
    terms = book.terms_of(tenant)
    found: dict[str, tuple[int, int]] = {}
    for meter in sorted(get_args(Meter)):
        price = book.find(PriceScope(tenant, endpoint, origin.model, origin.variant, meter))
        if price is not None:
            exact = Fraction(max(tier.micros for tier in price.tiers), price.per)
            exact *= Fraction(PPM - terms.discount_ppm, PPM)
            found[meter] = (exact.numerator, exact.denominator)
    return Tariff(terms.currency, found)
