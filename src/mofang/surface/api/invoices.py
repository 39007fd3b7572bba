"""Invoices and credit notes: make, issue, correct, trace, verify, print."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from mofang.base.domain.access import Principal
from mofang.base.domain.billing import DocumentKind, InvoiceState
from mofang.base.domain.errors import InvoiceNotFound, NotFound, TenantNotFound
from mofang.base.domain.usage import UsageEvent
from mofang.base.identity.store import IdentityStore
from mofang.sell.bill.billing import Billing, InvoiceCheck
from mofang.sell.bill.focus import focus_csv
from mofang.sell.bill.invoice import BookRef, Document
from mofang.sell.bill.paper import csv_text, html_page
from mofang.sell.bill.rating import InvoiceLine, Unrated
from mofang.sell.bill.store import BillStore, Invoice, Party
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import PLATFORM, Changes, Entry
from mofang.surface.api.changes import tenant as tenant_of
from mofang.surface.api.fields import AfterId, AfterNumber, At, Body, Id, Limit, Page, TenantName, Text, page

LineNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]
Form = Annotated[
    Literal["html", "csv", "json", "focus"],
    Query(description="a page to print, a table, the document, or FOCUS 1.2 (CSV)"),
]
From = Annotated[At, Query(alias="from", description="start of a full hour, microseconds since the epoch")]
To = Annotated[At, Query(description="start of a full hour, microseconds since the epoch; not included")]


class InvoiceBody(Body):
    """Whose usage to invoice, from and to when (full hours, microseconds since the epoch)."""

    tenant: TenantName
    start: At = Field(alias="from")
    end: At = Field(alias="to")


class CreditedLine(Body):
    """How much of which line to give back, in micro-units before tax."""

    line: int = Field(ge=1, le=2**31 - 1)
    amount_micros: int = Field(ge=1, le=2**62)


class CreditBody(Body):
    """Why, and which lines to give back; left out: all that is left."""

    reason: Text = Field(max_length=500)
    lines: list[CreditedLine] | None = Field(None, max_length=1000)


class PartyBody(Body):
    """Who stands on invoices. The address has lines; notes are printed at the foot of the seller's."""

    title: Text = Field("", max_length=200)
    address: Text = Field("", max_length=500)
    email: Text = Field("", max_length=200)
    tax_id: Text = Field("", max_length=60)
    notes: Text = Field("", max_length=1000)


class InvoiceView(BaseModel):
    """A document, its state, and the SHA-256 of the document's canonical bytes."""

    id: str
    kind: DocumentKind
    number: str
    state: InvoiceState
    tenant: str
    start: int
    end: int
    currency: str
    price_books: tuple[BookRef, ...]
    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]
    unpriced: tuple[str, ...]
    net_micros: int
    tax_ppm: int
    tax_micros: int
    total_micros: int
    due_micros: int
    sha256: str
    created_at: int
    issued_at: int
    ended_at: int
    credits: str
    reason: str


class Invoices:
    """The routes of `bill` about invoices."""

    def __init__(
        self,
        bills: BillStore,
        billing: Billing,
        identity: IdentityStore,
        settle: Callable[[], None],
        changes: Changes,
    ) -> None:
        self._bills = bills
        self._billing = billing
        self._identity = identity
        self._settle = settle
        self._changes = changes

    def create_invoice(self, body: InvoiceBody, who: Caller) -> InvoiceView:
        """Make the invoice of a tenant for a period, as a draft."""
        self._check_tenant(body.tenant)
        self._settle()
        with self._changes.record(who, "invoice.create", of=tenant_of(body.tenant), before=None) as entry:
            invoice = self._billing.draft(body.tenant, body.start, body.end)
            entry.target, entry.after = invoice.id, _told(invoice)
        return _view(invoice)

    def issue_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Make a draft final: it gets the next number, and its period is closed."""
        self._settle()
        with self._move(who, "invoice.issue", invoice) as entry:
            entry.after = _told(moved := self._billing.issue(invoice))
        return _view(moved)

    def pay_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Note that an invoice was paid, or that the money of a credit note went back."""
        with self._move(who, "invoice.pay", invoice) as entry:
            entry.after = _told(moved := self._billing.pay(invoice))
        return _view(moved)

    def void_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Make a draft or an unpaid invoice void."""
        with self._move(who, "invoice.void", invoice) as entry:
            entry.after = _told(moved := self._billing.void(invoice))
        return _view(moved)

    def credit_invoice(self, invoice: Id, body: CreditBody, who: Caller) -> InvoiceView:
        """Issue a credit note for lines of an invoice, or for all that is left of it."""
        amounts = None if body.lines is None else [(line.line, line.amount_micros) for line in body.lines]
        with self._move(who, "invoice.credit", invoice, reason=body.reason) as entry:
            note = self._billing.credit(invoice, amounts, body.reason)
            entry.after, entry.details["credit_note"] = _told(self._bills.get(invoice)), _told(note)
        return _view(note)

    def list_invoices(
        self, who: Caller, tenant: TenantName | None = None, after: AfterId = "", limit: Limit = 100
    ) -> Page[InvoiceView]:
        """List invoices and credit notes in the order they were made."""
        if tenant is None and who.reach != "platform":
            tenant = who.tenant
        if tenant is not None:
            _check_payer(who, tenant, TenantNotFound(f"there is no tenant {tenant!r}"))
        found = self._bills.list(tenant, after=after, limit=limit + 1)
        return page([_view(invoice) for invoice in found], limit, lambda invoice: invoice.id)

    def get_invoice(self, invoice: Id, who: Caller) -> InvoiceView:
        """Return an invoice or credit note by its id."""
        return _view(self._get(invoice, who))

    def get_invoice_document(self, invoice: Id, who: Caller, form: Form = "json") -> Response:
        """Return an invoice as a page to print, as a table, or as its canonical bytes."""
        found = self._get(invoice, who)
        if form == "json":
            return Response(found.document.canonical, media_type="application/json")
        if form == "csv":
            return Response(csv_text(found), media_type="text/csv; charset=utf-8")
        if form == "focus":
            return self._focus(found.document, found.number)
        credited = self._bills.get(found.document.credits).number if found.document.credits else ""
        seller, buyer = self._bills.party(""), self._bills.party(found.document.tenant)
        headers = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(html_page(found, seller, buyer, credited), media_type="text/html", headers=headers)

    def export_focus(self, who: Caller, start: From, to: To, tenant: TenantName | None = None) -> Response:
        """Rate a tenant's usage of a period as an invoice would now, and return it in the FOCUS format (CSV)."""
        tenant = tenant or who.tenant
        _check_payer(who, tenant, TenantNotFound(f"there is no tenant {tenant!r}"))
        self._check_tenant(tenant)
        self._settle()
        return self._focus(self._billing.rated(tenant, start, to))

    def _focus(self, document: Document, number: str = "") -> Response:
        seller, buyer = self._bills.party(""), self._bills.party(document.tenant)
        text = focus_csv(document, seller.title, buyer.title, number)
        return Response(text, media_type="text/csv; charset=utf-8")

    def verify_invoice(self, invoice: Id, who: Caller) -> InvoiceCheck:
        """Make an invoice again from its usage and prices, compare it byte by byte, and count its events."""
        self._get(invoice, who)
        self._settle()
        return self._billing.verify(invoice)

    def trace_line(
        self, invoice: Id, line: LineNumber, who: Caller, after: AfterNumber = 0, limit: Limit = 100
    ) -> Page[UsageEvent]:
        """List the events that a line of an invoice comes from, in the order of the ledger."""
        self._get(invoice, who)
        found = self._billing.trace(invoice, line, after=after, limit=limit)
        return Page(items=found.items, next=found.next)

    def list_parties(self) -> Page[Party]:
        """List who stands on invoices; the seller has the empty name."""
        return Page(items=self._bills.parties())

    def set_seller(self, body: PartyBody, who: Caller) -> Party:
        """Say what invoices print about the seller."""
        return self._set_party("", body, who)

    def set_party(self, tenant: TenantName, body: PartyBody, who: Caller) -> Party:
        """Say what invoices print about a tenant."""
        self._check_tenant(tenant)
        return self._set_party(tenant, body, who)

    def _set_party(self, tenant: str, body: PartyBody, who: Caller) -> Party:
        party = Party(tenant, **body.model_dump())
        old, of = self._bills.party(tenant), tenant_of(tenant) if tenant else PLATFORM
        told = {"before": _filled(old), "after": _filled(party), "changed": _differing(old, party)}
        with self._changes.record(who, "party.set", tenant or "seller", of=of, **told):
            return self._bills.set_party(party)

    def _get(self, invoice: str, who: Principal) -> Invoice:
        found = self._bills.get(invoice)
        _check_payer(who, found.document.tenant, InvoiceNotFound(f"there is no invoice {invoice!r}"))
        return found

    def _check_tenant(self, tenant: str) -> None:
        if all(found.name != tenant for found in self._identity.list_tenants()):
            raise TenantNotFound(f"there is no tenant {tenant!r}")

    def _move(self, who: Principal, action: str, invoice: str, **details: object) -> AbstractContextManager[Entry]:
        """Record what is about to happen to an invoice."""
        now = self._bills.get(invoice)
        of = tenant_of(now.document.tenant)
        return self._changes.record(who, action, invoice, of=of, before=_told(now), **details)


def _told(invoice: Invoice) -> dict[str, object]:
    """Return what the audit log says of an invoice."""
    return {"id": invoice.id, "number": invoice.number, "state": invoice.state, "sha256": invoice.document.sha256}


def _filled(party: Party) -> dict[str, object]:
    """Return what the audit log says of a party: what is known of it, not the words themselves, which name people."""
    return {"known": sorted(name for name, word in asdict(party).items() if name != "tenant" and word)}


def _differing(one: Party, other: Party) -> list[str]:
    return [name for name, word in asdict(one).items() if word != getattr(other, name)]


def _check_payer(who: Principal, tenant: str, missing: NotFound) -> None:
    """Raise ``missing`` unless the caller speaks for the tenant as a whole: a project's keys see no invoices."""
    if not who.scope.covers(tenant):
        raise missing


def router(
    bills: BillStore, billing: Billing, identity: IdentityStore, settle: Callable[[], None], changes: Changes
) -> APIRouter:
    """Make the router of invoices."""
    api = Invoices(bills, billing, identity, settle, changes)
    return table(
        "bill",
        Route("GET", "/invoices", "bill", api.list_invoices),
        Route("POST", "/invoices", "sell", api.create_invoice, 201, everywhere=True),
        Route("GET", "/invoices/{invoice}", "bill", api.get_invoice),
        Route("GET", "/invoices/{invoice}/document", "bill", api.get_invoice_document),
        Route("GET", "/usage/focus", "bill", api.export_focus),
        Route("POST", "/invoices/{invoice}/issue", "sell", api.issue_invoice, everywhere=True),
        Route("POST", "/invoices/{invoice}/pay", "sell", api.pay_invoice, everywhere=True),
        Route("POST", "/invoices/{invoice}/void", "sell", api.void_invoice, everywhere=True),
        Route("POST", "/invoices/{invoice}/credit", "sell", api.credit_invoice, 201, everywhere=True),
        Route("GET", "/invoices/{invoice}/verify", "bill", api.verify_invoice),
        Route("GET", "/invoices/{invoice}/lines/{line}/events", "bill", api.trace_line),
        Route("GET", "/parties", "bill", api.list_parties, everywhere=True),
        Route("PUT", "/seller", "sell", api.set_seller, everywhere=True),
        Route("PUT", "/parties/{tenant}", "sell", api.set_party, everywhere=True),
    )


def _view(invoice: Invoice) -> InvoiceView:
    document = invoice.document
    names = ("id", "kind", "tenant", "start", "end", "currency", "price_books", "lines", "unrated", "unpriced",
             "tax_ppm", "sha256", "created_at", "credits", "reason")  # fmt: skip
    return InvoiceView(
        **{name: getattr(document, name) for name in names},
        number=invoice.number,
        state=invoice.state,
        net_micros=document.net.micros,
        tax_micros=document.tax.micros,
        total_micros=document.total.micros,
        due_micros=document.due.micros,
        issued_at=invoice.issued_at,
        ended_at=invoice.ended_at,
    )
