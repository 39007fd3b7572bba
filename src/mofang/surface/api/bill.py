"""Prices and invoices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import InvoiceNotFound, NotFound, TenantNotFound
from mofang.base.identity.store import IdentityStore
from mofang.sell.bill.invoice import BookRef, Invoice, InvoiceState
from mofang.sell.bill.pricebook import PublishedBook
from mofang.sell.bill.rating import InvoiceLine, Unrated
from mofang.sell.bill.store import BillStore, InvoiceCheck
from mofang.sell.meter.store import UsageStore
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import AfterId, AfterNumber, At, Body, Id, Limit, Page, TenantName, Text, page


class BookBody(Body):
    """The TOML text of a price book, and from when it is in force (left out: now)."""

    book: Text = Field(max_length=1 << 20)
    effective_at: At | None = None


class InvoiceBody(Body):
    """Whose usage to invoice, from and to when (full hours, microseconds since the epoch)."""

    tenant: TenantName
    start: At = Field(alias="from")
    end: At = Field(alias="to")


class PriceView(BaseModel):
    """``amount_micros`` for every ``per`` units of ``meter``."""

    endpoint: str
    meter: str
    per: int
    amount_micros: int


class BookView(BaseModel):
    """A published price book."""

    version: int
    effective_at: int
    published_at: int
    currency: str
    digest: str
    prices: list[PriceView]


class InvoiceView(BaseModel):
    """An invoice: its document, its state, and the SHA-256 of the document's canonical bytes."""

    id: str
    tenant: str
    state: InvoiceState
    start: int
    end: int
    currency: str
    price_books: tuple[BookRef, ...]
    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]
    unpriced: tuple[str, ...]
    total_micros: int
    sha256: str
    created_at: int


class Bill:
    """The routes of `bill`."""

    def __init__(
        self,
        bills: BillStore,
        usage: UsageStore,
        identity: IdentityStore,
        settle: Callable[[], None],
        changes: Changes,
    ) -> None:
        self._bills = bills
        self._usage = usage
        self._identity = identity
        self._settle = settle
        self._changes = changes

    def list_prices(self, after: AfterNumber = 0, limit: Limit = 100) -> Page[BookView]:
        """List price books, newest first."""
        books = [_book(book) for book in reversed(self._bills.price_books()) if not after or book.version < after]
        return page(books, limit, lambda book: book.version)

    def get_current_prices(self) -> BookView:
        """Return the price book in force now."""
        return _book(self._bills.current())

    def publish_prices(self, body: BookBody, who: Caller) -> BookView:
        """Publish a price book."""
        with self._changes.record(who, "prices.publish") as entry:
            book = self._bills.publish(body.book, body.effective_at)
            entry.target = str(book.version)
            entry.details |= {"digest": book.book.digest, "effective_at": book.effective_at}
        return _book(book)

    def create_invoice(self, body: InvoiceBody, who: Caller) -> InvoiceView:
        """Make the invoice of a tenant for a period, as a draft."""
        if all(tenant.name != body.tenant for tenant in self._identity.list_tenants()):
            raise TenantNotFound(f"there is no tenant {body.tenant!r}")
        self._settle()
        with self._changes.record(who, "invoice.create", tenant=body.tenant) as entry:
            billable = self._usage.billable(body.tenant, body.start, body.end)
            invoice = self._bills.create(body.tenant, body.start, body.end, billable)
            entry.target = invoice.id
            entry.details["sha256"] = invoice.sha256
        return _invoice(invoice)

    def issue_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Make a draft final."""
        with self._changes.record(who, "invoice.issue", invoice):
            return _invoice(self._bills.issue(invoice))

    def list_invoices(
        self, who: Caller, tenant: TenantName | None = None, after: AfterId = "", limit: Limit = 100
    ) -> Page[InvoiceView]:
        """List invoices in the order they were made."""
        if tenant is None and who.reach != "platform":
            tenant = who.tenant
        if tenant is not None:
            self._check_payer(who, tenant, TenantNotFound(f"there is no tenant {tenant!r}"))
        found = self._bills.list(tenant, after=after, limit=limit + 1)
        return page([_invoice(invoice) for invoice in found], limit, lambda invoice: invoice.id)

    def get_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Return an invoice by its id."""
        return _invoice(self._get(invoice, who))

    def verify_invoice(self, invoice: Id, who: Caller) -> InvoiceCheck:
        """Make an invoice again from its usage and prices, and compare it byte by byte."""
        found = self._get(invoice, who)
        self._settle()
        return self._bills.verify(invoice, self._usage.billable(found.tenant, found.start, found.end))

    def _get(self, invoice: str, who: Principal) -> Invoice:
        found = self._bills.get(invoice)
        self._check_payer(who, found.tenant, InvoiceNotFound(f"there is no invoice {invoice!r}"))
        return found

    def _check_payer(self, who: Principal, tenant: str, missing: NotFound) -> None:
        """Raise ``missing`` unless the caller speaks for the tenant as a whole: a project's keys see no invoices."""
        if not who.scope.covers(tenant):
            raise missing


def router(
    bills: BillStore, usage: UsageStore, identity: IdentityStore, settle: Callable[[], None], changes: Changes
) -> APIRouter:
    """Make the router of `bill`."""
    api = Bill(bills, usage, identity, settle, changes)
    return table(
        "bill",
        Route("GET", "/prices", "bill", api.list_prices),
        Route("GET", "/prices/current", "bill", api.get_current_prices),
        Route("POST", "/prices", "sell", api.publish_prices, 201, everywhere=True),
        Route("GET", "/invoices", "bill", api.list_invoices),
        Route("POST", "/invoices", "sell", api.create_invoice, 201, everywhere=True),
        Route("GET", "/invoices/{invoice}", "bill", api.get_invoice),
        Route("POST", "/invoices/{invoice}/issue", "sell", api.issue_invoice, everywhere=True),
        Route("GET", "/invoices/{invoice}/verify", "bill", api.verify_invoice),
    )


def _book(book: PublishedBook) -> BookView:
    return BookView.model_validate(book.to_dict())


def _invoice(invoice: Invoice) -> InvoiceView:
    return InvoiceView.model_validate(
        {**asdict(invoice), "total_micros": invoice.total.micros, "sha256": invoice.sha256}
    )
