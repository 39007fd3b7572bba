"""Rating: usage times prices, as a pure function of both.

Amounts are exact rationals until the one rounding, half to even, that makes a line whole micro-units. The order in
which usage arrives, and how it was cut into rows, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from mofang.sell.bill.pricebook import PriceBook, PublishedBook, book_at
from mofang.sell.meter.windows import UsageRow


@dataclass(frozen=True, slots=True, order=True)
class InvoiceLine:
    """One priced meter of one version behind one endpoint: ``quantity`` units at ``unit_micros`` per ``per`` units."""

    endpoint: str
    version: int
    digest: str
    meter: str
    price_book: int  # version of the price book; 0: one that is not published
    quantity: int
    per: int
    unit_micros: int
    amount_micros: int


@dataclass(frozen=True, slots=True, order=True)
class Unrated:
    """Usage of a meter that has no price: it costs nothing, and is shown all the same."""

    endpoint: str
    version: int
    digest: str
    meter: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Rating:
    """All usage: with a price as ``lines``, without one as ``unrated``; both sorted."""

    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The endpoints whose usage has no price at all."""
        return tuple(sorted({row.endpoint for row in self.unrated} - {line.endpoint for line in self.lines}))


def rate(usage: Sequence[UsageRow], book: PriceBook) -> Rating:
    """Price ``usage`` by one book, whenever it was."""
    return rate_period(usage, [PublishedBook(version=0, effective_at=0, published_at=0, book=book)])


def rate_period(usage: Sequence[UsageRow], books: Sequence[PublishedBook]) -> Rating:
    """Price each hour of ``usage`` by the book in force then; what no book covers is unrated."""
    in_force = {hour: book_at(books, hour) for hour in {row.hour for row in usage}}
    versions = {hour: book.version for hour, book in in_force.items() if book}
    by_version = {book.version: book.book for book in books}
    sums: defaultdict[tuple[str, int, str, str, int | None], int] = defaultdict(int)
    for row in usage:
        sums[row.endpoint, row.version, row.digest, row.meter, versions.get(row.hour)] += row.quantity
    lines: list[InvoiceLine] = []
    unrated: defaultdict[tuple[str, int, str, str], int] = defaultdict(int)
    for (endpoint, version, digest, meter, book), quantity in sums.items():
        price = None if book is None else by_version[book].find(endpoint, meter)
        if book is None or price is None:
            unrated[endpoint, version, digest, meter] += quantity
            continue
        lines.append(
            InvoiceLine(
                endpoint=endpoint,
                version=version,
                digest=digest,
                meter=meter,
                price_book=book,
                quantity=quantity,
                per=price.per,
                unit_micros=price.amount.micros,
                # round() of a Fraction is exact and rounds halves to even, however large the numbers are.
                amount_micros=round(Fraction(quantity * price.amount.micros, price.per)),
            )
        )
    return Rating(tuple(sorted(lines)), tuple(sorted(Unrated(*key, quantity) for key, quantity in unrated.items())))
