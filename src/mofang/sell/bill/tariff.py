"""What budgets need to know of prices: the most that units cost a tenant now. Pure, handed to budgets from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mofang.base.domain.budget import METERS, Tariff
from mofang.base.domain.deployment import Revision
from mofang.sell.bill.pricebook import PublishedBook, book_at


def tariffs_at(books: Sequence[PublishedBook], at: int) -> Callable[[str, Revision], Tariff | None]:
    """Return from whom and what is asked to the tariff at ``at``, by the book in force then; None without one."""
    published = book_at(books, at)

    def tariff(tenant: str, revision: Revision) -> Tariff | None:
        if published is None:
            return None
        book = published.book
        found = {meter: book.find(revision.endpoint, meter) for meter in sorted(METERS)}
        return Tariff(book.currency, {meter: (p.amount.micros, p.per) for meter, p in found.items() if p})

    return tariff
