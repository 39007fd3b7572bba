"""Invoices: what a tenant pays for a period, as a document that can be recomputed to the byte.

Built from usage and price books alone; the canonical bytes are what is stored, hashed, handed out and compared. The
state is not part of them: issuing an invoice does not change what it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mofang.base.domain.errors import InvalidPeriod, PriceBookNotFound
from mofang.base.domain.money import Money
from mofang.base.domain.registry import canonical_json
from mofang.sell.bill.pricebook import PublishedBook, books_in_force
from mofang.sell.bill.rating import InvoiceLine, Unrated, rate_period
from mofang.sell.meter.windows import UsageRow, check_period, describe

InvoiceState = Literal["draft", "issued"]


@dataclass(frozen=True, slots=True, order=True)
class BookRef:
    """The price book an invoice was rated by."""

    version: int
    digest: str
    effective_at: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What ``tenant`` owes for ``start`` up to ``end`` (microseconds, full hours)."""

    id: str
    tenant: str
    start: int
    end: int
    currency: str
    price_books: tuple[BookRef, ...]
    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]  # usage of meters without a price
    unpriced: tuple[str, ...]  # endpoints without any price
    created_at: int
    state: InvoiceState = "draft"

    @property
    def total(self) -> Money:
        """The sum of the lines."""
        return Money(sum(line.amount_micros for line in self.lines), self.currency)

    @property
    def canonical(self) -> bytes:
        """The document: canonical JSON, integers only, without the state."""
        document = asdict(self) | {"total_micros": self.total.micros}
        del document["state"]
        return canonical_json(document)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of :attr:`canonical`."""
        return hashlib.sha256(self.canonical).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the document with state and SHA-256, as plain JSON values."""
        document: dict[str, Any] = json.loads(self.canonical)
        return document | {"state": self.state, "sha256": self.sha256}


def make_invoice(
    invoice_id: str,
    tenant: str,
    start: int,
    end: int,
    usage: Sequence[UsageRow],
    books: Sequence[PublishedBook],
    created_at: int,
) -> Invoice:
    """Rate ``usage`` by those of ``books`` in force in the period; the same arguments always make the same bytes.

    Raises PriceBookNotFound if no book is in force in the period, and InvalidPeriod if the period is empty or not of
    full hours, if usage lies outside of it, or if the currency changes inside of it.
    """
    check_period(start, end)
    for row in usage:
        if not start <= row.hour < end:
            raise InvalidPeriod(f"usage of {describe(row.hour)} is not in the period that ends {describe(end)}")
    valid = books_in_force(books, start, end)
    if not valid:
        raise PriceBookNotFound(f"no price book is in force before {describe(end)}")
    for book in valid:
        if book.book.currency != valid[0].book.currency:
            raise InvalidPeriod(
                f"the currency changes to {book.book.currency} at {describe(book.effective_at)}",
                hint="make two invoices: one up to then, one from then on",
            )
    rating = rate_period(usage, valid)
    return Invoice(
        id=invoice_id,
        tenant=tenant,
        start=start,
        end=end,
        currency=valid[0].book.currency,
        price_books=tuple(BookRef(book.version, book.book.digest, book.effective_at) for book in valid),
        lines=rating.lines,
        unrated=rating.unrated,
        unpriced=rating.unpriced,
        created_at=created_at,
    )
