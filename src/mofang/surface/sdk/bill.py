"""Prices and invoices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mofang.base.domain.money import Money
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class Price:
    """``amount_micros`` for every ``per`` units of ``meter`` at ``endpoint`` (``*``: every one without its own)."""

    endpoint: str
    meter: str
    per: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A numbered, immutable price book, in force from ``effective_at`` until a later one is."""

    version: int
    effective_at: int
    published_at: int
    currency: str
    digest: str
    prices: list[Price]


@dataclass(frozen=True, slots=True)
class BookRef:
    """A price book an invoice was rated by."""

    version: int
    digest: str
    effective_at: int


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One priced meter of one version behind one endpoint: ``quantity`` at ``unit_micros`` per ``per`` units."""

    endpoint: str
    version: int
    digest: str
    meter: str
    price_book: int
    quantity: int
    per: int
    unit_micros: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Unrated:
    """Usage of a meter that has no price: it costs nothing, and is shown all the same."""

    endpoint: str
    version: int
    digest: str
    meter: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a tenant owes for ``start`` up to ``end``, microseconds since the epoch."""

    id: str
    tenant: str
    state: Literal["draft", "issued"]
    start: int
    end: int
    currency: str
    price_books: list[BookRef]
    lines: list[InvoiceLine]
    unrated: list[Unrated]
    unpriced: list[str]  # endpoints without any price
    total_micros: int
    sha256: str  # of the document's canonical bytes
    created_at: int

    @property
    def total(self) -> Money:
        """The sum of the lines."""
        return Money(self.total_micros, self.currency)


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """Whether an invoice, made again from its usage and prices, is the same to the byte."""

    id: str
    matches: bool
    sha256: str
    recomputed_sha256: str


class Bill:
    """``client.bill``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list_prices(self, *, limit: int | None = None) -> list[PriceBook]:
        """Return all price books, newest first."""
        return [*walk(self._wire, "/prices", PriceBook, limit=limit)]

    def current_prices(self) -> PriceBook:
        """Return the price book in force now; raise PriceBookNotFound if there is none."""
        return self._wire.get("/prices/current", PriceBook)

    def set_prices(self, book: Path | str, *, effective_at: int | None = None) -> PriceBook:
        """Publish a price book, given as the path of a TOML file or as its text.

        It is in force from the hour of ``effective_at`` (microseconds since the epoch; left out: now).
        """
        text = book.read_text("utf-8") if isinstance(book, Path) else book
        return self._wire.call("POST", "/prices", PriceBook, {"book": text, "effective_at": effective_at})

    def create_invoice(self, tenant: str = "default", *, start: int, end: int) -> Invoice:
        """Make the invoice of a tenant for ``start`` up to ``end`` (full hours, UTC), as a draft."""
        body = {"tenant": tenant, "from": start, "to": end}
        return self._wire.call("POST", "/invoices", Invoice, body)

    def issue_invoice(self, invoice: str) -> Invoice:
        """Make a draft final; raise InvalidPeriod while its period has not ended."""
        return self._wire.call("POST", f"/invoices/{segment(invoice)}/issue", Invoice)

    def list_invoices(self, *, tenant: str | None = None, limit: int | None = 100) -> list[Invoice]:
        """Return invoices in the order they were made."""
        return [*walk(self._wire, "/invoices", Invoice, {"tenant": tenant}, limit=limit)]

    def get_invoice(self, invoice: str) -> Invoice:
        """Return an invoice by its id."""
        return self._wire.get(f"/invoices/{segment(invoice)}", Invoice)

    def verify_invoice(self, invoice: str) -> InvoiceCheck:
        """Have an invoice made again from its usage and prices, and compared to the byte."""
        return self._wire.get(f"/invoices/{segment(invoice)}/verify", InvoiceCheck)
