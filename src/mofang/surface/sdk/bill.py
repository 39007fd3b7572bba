"""Prices and invoices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mofang.base.domain.billing import DocumentKind, InvoiceState
from mofang.base.domain.money import Money
from mofang.base.domain.usage import UsageEvent
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class PriceScope:
    """What a price is for; ``*`` is everything."""

    tenant: str
    endpoint: str
    model: str
    variant: str
    meter: str


@dataclass(frozen=True, slots=True)
class Tier:
    """``micros`` for every ``per`` units of a period up to ``up_to`` of them (None: however many)."""

    up_to: int | None
    micros: int


@dataclass(frozen=True, slots=True)
class Price:
    """What ``scope`` costs: ``tiers`` per ``per`` units, after ``free`` ones; ``whole``: a begun package counts."""

    scope: PriceScope
    currency: str
    per: int
    tiers: list[Tier]
    mode: Literal["graduated", "volume"]
    free: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the invoices of a tenant (``*``: all others). Percentages are millionths."""

    tenant: str
    currency: str
    discount_ppm: int
    minimum_micros: int
    tax_ppm: int


@dataclass(frozen=True, slots=True)
class PriceBook:
    """A numbered, immutable price book, in force from ``effective_at`` until a later one is."""

    version: int
    effective_at: int
    published_at: int
    currency: str
    digest: str
    terms: list[Terms]
    prices: list[Price]


@dataclass(frozen=True, slots=True)
class Step:
    """``quantity`` units at ``unit_micros`` for every ``per``."""

    quantity: int
    per: int
    unit_micros: int


@dataclass(frozen=True, slots=True)
class QuotedMeter:
    """One meter of a quote; ``estimated``: the quantity is what earlier requests used."""

    meter: str
    quantity: int
    estimated: bool
    priced: bool
    steps: list[Step]
    amount_micros: int
    at_most_micros: int


@dataclass(frozen=True, slots=True)
class Quote:
    """What usage would cost before tax: added to this month's so far, and at most, wherever in a month it comes."""

    tenant: str
    endpoint: str
    model: str
    variant: str
    version: int
    price_book: int
    currency: str
    discount_ppm: int
    amount_micros: int
    at_most_micros: int
    meters: list[QuotedMeter]

    @property
    def amount(self) -> Money:
        """What it adds to this month."""
        return Money(self.amount_micros, self.currency)

    @property
    def at_most(self) -> Money:
        """The most it can cost."""
        return Money(self.at_most_micros, self.currency)


@dataclass(frozen=True, slots=True)
class BookRef:
    """A price book an invoice was rated by."""

    version: int
    digest: str
    effective_at: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one version behind one endpoint contributed to a line."""

    endpoint: str
    version: int
    digest: str
    model: str
    variant: str
    quantity: int


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One amount, and where it comes from: usage of ``parts`` in ``steps``, or the lines ``of``."""

    number: int
    kind: Literal["usage", "discount", "minimum", "adjustment", "credit"]
    start: int
    end: int
    price_book: int
    scope: PriceScope
    quantity: int
    steps: list[Step]
    parts: list[Part]
    of: list[int]
    ppm: int
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
    """What a tenant owes for ``start`` up to ``end``, or is given back; times are microseconds since the epoch."""

    id: str
    kind: DocumentKind
    number: str  # empty: a draft
    state: InvoiceState
    tenant: str
    start: int
    end: int
    currency: str
    price_books: list[BookRef]
    lines: list[InvoiceLine]
    unrated: list[Unrated]
    unpriced: list[str]  # endpoints without any price
    net_micros: int
    tax_ppm: int
    tax_micros: int
    total_micros: int
    due_micros: int  # the total, rounded to what can be paid
    sha256: str  # of the document's canonical bytes
    created_at: int
    issued_at: int
    ended_at: int
    credits: str  # id of the invoice a credit note is for
    reason: str

    @property
    def total(self) -> Money:
        """Lines and tax."""
        return Money(self.total_micros, self.currency)

    @property
    def due(self) -> Money:
        """What is to be paid."""
        return Money(self.due_micros, self.currency)


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """Whether an invoice, made again, is the same to the byte, and whether its events add up to its sums."""

    id: str
    matches: bool
    events_match: bool
    sha256: str
    recomputed_sha256: str


@dataclass(frozen=True, slots=True)
class Party:
    """Who stands on invoices; ``tenant`` is empty for the seller."""

    tenant: str
    title: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""
    notes: str = ""


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

    def quote(self, endpoint: str, quantities: Mapping[str, int], *, tenant: str | None = None) -> Quote:
        """Price usage before it happens: ``quote("digits", {"requests": 1, "rows": 1000})``.

        What nobody can know before (compute time, bytes) is estimated from what earlier requests used.
        """
        body = {"endpoint": endpoint, "quantities": dict(quantities), "tenant": tenant}
        return self._wire.call("POST", "/quote", Quote, body)

    def create_invoice(self, tenant: str = "default", *, start: int, end: int) -> Invoice:
        """Make the invoice of a tenant for ``start`` up to ``end`` (full hours, UTC), as a draft."""
        body = {"tenant": tenant, "from": start, "to": end}
        return self._wire.call("POST", "/invoices", Invoice, body)

    def issue_invoice(self, invoice: str) -> Invoice:
        """Make a draft final; raise InvalidPeriod before its period and the grace time are over."""
        return self._wire.call("POST", f"/invoices/{segment(invoice)}/issue", Invoice)

    def pay_invoice(self, invoice: str) -> Invoice:
        """Note that an invoice was paid, or that the money of a credit note went back."""
        return self._wire.call("POST", f"/invoices/{segment(invoice)}/pay", Invoice)

    def void_invoice(self, invoice: str) -> Invoice:
        """Make a draft or an unpaid invoice void: its hours can be invoiced again, its number stays taken."""
        return self._wire.call("POST", f"/invoices/{segment(invoice)}/void", Invoice)

    def credit_invoice(self, invoice: str, reason: str, lines: Mapping[int, int] | None = None) -> Invoice:
        """Issue a credit note for ``lines`` (number -> micro-units before tax), or for all that is left."""
        items = None if lines is None else [{"line": line, "amount_micros": micros} for line, micros in lines.items()]
        return self._wire.call(
            "POST", f"/invoices/{segment(invoice)}/credit", Invoice, {"reason": reason, "lines": items}
        )

    def list_invoices(self, *, tenant: str | None = None, limit: int | None = 100) -> list[Invoice]:
        """Return invoices and credit notes in the order they were made."""
        return [*walk(self._wire, "/invoices", Invoice, {"tenant": tenant}, limit=limit)]

    def get_invoice(self, invoice: str) -> Invoice:
        """Return an invoice or credit note by its id."""
        return self._wire.get(f"/invoices/{segment(invoice)}", Invoice)

    def invoice_document(self, invoice: str, form: Literal["html", "csv", "json", "focus"] = "html") -> str:
        """Return an invoice as a page to print, as a table, as its canonical JSON, or as FOCUS 1.2 (CSV)."""
        return self._wire.text(f"/invoices/{segment(invoice)}/document?form={form}")

    def focus(self, start: int, end: int, *, tenant: str | None = None) -> str:
        """Return a tenant's usage of a period (full hours), rated as an invoice would be now, as FOCUS 1.2 (CSV).

        Raises PriceBookNotFound if no price book is in force, and TenantNotFound for a tenant out of the key's reach.
        """
        asked = f"?from={start}&to={end}" + (f"&tenant={segment(tenant)}" if tenant else "")
        return self._wire.text(f"/usage/focus{asked}")

    def verify_invoice(self, invoice: str) -> InvoiceCheck:
        """Have an invoice made again from its usage and prices, compared to the byte, and its events counted."""
        return self._wire.get(f"/invoices/{segment(invoice)}/verify", InvoiceCheck)

    def trace_line(self, invoice: str, line: int, *, limit: int | None = None) -> Iterator[UsageEvent]:
        """Yield the events that a line comes from, in the order of the ledger."""
        return walk(self._wire, f"/invoices/{segment(invoice)}/lines/{line}/events", UsageEvent, limit=limit)

    def list_parties(self) -> list[Party]:
        """Return who stands on invoices."""
        return [*walk(self._wire, "/parties", Party)]

    def set_party(self, party: Party) -> Party:
        """Say who stands on invoices: a tenant, or (``tenant`` empty) the seller."""
        path = f"/parties/{segment(party.tenant)}" if party.tenant else "/seller"
        fields = ("title", "address", "email", "tax_id", "notes")
        return self._wire.call("PUT", path, Party, {name: getattr(party, name) for name in fields})
