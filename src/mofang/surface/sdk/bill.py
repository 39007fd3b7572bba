"""Prices and invoices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mofang.base.domain.money import Money
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A published, immutable price book."""

    id: str
    name: str
    currency: str
    effective_at: int
    digest: str
    text: str  # TOML, as it was published
    created_at: int = 0
    prices: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """What one meter of one version cost a project."""

    project: str
    endpoint: str
    digest: str
    meter: str
    quantity: int
    price: str  # as in the price book, for people: "0.10 EUR per 1000"
    amount: Money


@dataclass(frozen=True, slots=True)
class Invoice:
    """What a tenant owes for ``[from_at, to_at)``."""

    id: str
    tenant: str
    from_at: int
    to_at: int
    total: Money
    lines: list[InvoiceLine]
    digest: str
    created_at: int


@dataclass(frozen=True, slots=True)
class InvoiceProof:
    """Whether an invoice, rated again from its events, is the same to the byte."""

    invoice: str
    matches: bool
    digest: str
    recomputed: str


class Bill:
    """``client.bill``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list_prices(self, *, limit: int | None = None) -> list[PriceBook]:
        """Return the newest price books first."""
        return [*walk(self._wire, "/prices", PriceBook, limit=limit)]

    def set_prices(self, book: Path | str) -> PriceBook:
        """Publish a price book, given as the path of a TOML file or as its text."""
        text = book.read_text("utf-8") if isinstance(book, Path) else book
        return self._wire.call("POST", "/prices", PriceBook, {"book": text})

    def issue(self, tenant: str = "default", *, from_at: int, to_at: int) -> Invoice:
        """Issue the invoice of a tenant for ``[from_at, to_at)``, microseconds since the epoch."""
        body = {"tenant": tenant, "from": from_at, "to": to_at}
        return self._wire.call("POST", "/invoices", Invoice, body)

    def list_invoices(self, *, tenant: str | None = None, limit: int | None = 100) -> list[Invoice]:
        """Return the newest invoices first."""
        return [*walk(self._wire, "/invoices", Invoice, {"tenant": tenant}, limit=limit)]

    def get_invoice(self, invoice: str) -> Invoice:
        """Return an invoice by its id."""
        return self._wire.get(f"/invoices/{segment(invoice)}", Invoice)

    def verify_invoice(self, invoice: str) -> InvoiceProof:
        """Rate the events of an invoice again and compare to the byte."""
        return self._wire.get(f"/invoices/{segment(invoice)}/verify", InvoiceProof)
