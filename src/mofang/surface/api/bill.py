"""Prices: publish them, show them, quote by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import TenantNotFound
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import Meter
from mofang.base.identity.store import IdentityStore
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.charge import Step
from mofang.sell.bill.pricebook import ANY, Price, PublishedBook, Terms
from mofang.sell.bill.store import BillStore
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import PLATFORM, Changes
from mofang.surface.api.fields import AfterNumber, At, Body, EndpointName, Limit, Page, TenantName, Text, page

Units = Annotated[int, Field(ge=0, le=10**15)]


class BookBody(Body):
    """The TOML text of a price book, and from when it is in force (left out: now)."""

    book: Text = Field(max_length=1 << 18)
    effective_at: At | None = None


class QuoteBody(Body):
    """What to price: so many units of each meter of an endpoint, for a tenant (left out: the caller's)."""

    endpoint: EndpointName
    quantities: dict[Meter, Units] = Field(min_length=1)
    tenant: TenantName | None = None


class BookView(BaseModel):
    """A published price book: terms (the first: everyone's) and prices."""

    version: int
    effective_at: int
    published_at: int
    currency: str
    digest: str
    terms: tuple[Terms, ...]
    prices: tuple[Price, ...]


class QuotedMeterView(BaseModel):
    """One meter of a quote. ``estimated``: the quantity is what earlier requests used; ``steps``: units and prices."""

    meter: str
    quantity: int
    estimated: bool
    priced: bool
    steps: tuple[Step, ...]
    amount_micros: int
    at_most_micros: int


class QuoteView(BaseModel):
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
    meters: list[QuotedMeterView]


class Bill:
    """The routes of `bill` about prices."""

    def __init__(self, bills: BillStore, billing: Billing, identity: IdentityStore, changes: Changes) -> None:
        self._bills = bills
        self._billing = billing
        self._identity = identity
        self._changes = changes

    def list_prices(self, who: Caller, after: AfterNumber = 0, limit: Limit = 100) -> Page[BookView]:
        """List price books, newest first; a tenant sees its own prices and everyone's."""
        found = [book for book in reversed(self._bills.price_books()) if not after or book.version < after]
        books = [_book(book, who) for book in found]
        return page(books, limit, lambda book: book.version)

    def get_current_prices(self, who: Caller) -> BookView:
        """Return the price book in force now; a tenant sees its own prices and everyone's."""
        return _book(self._bills.current(), who)

    def publish_prices(self, body: BookBody, who: Caller) -> BookView:
        """Publish a price book."""
        with self._changes.record(who, "prices.publish", of=PLATFORM, before=self._newest()) as entry:
            book = self._bills.publish(body.book, body.effective_at)
            entry.target = str(book.version)
            entry.after = {"version": book.version, "digest": book.book.digest, "effective_at": book.effective_at}
        return _book(book, who)

    def quote(self, body: QuoteBody, who: Caller) -> QuoteView:
        """Price usage before it happens."""
        tenant = who.tenant if body.tenant is None else body.tenant
        if tenant != who.tenant and not (who.reach == "platform" and _exists(self._identity, tenant)):
            raise TenantNotFound(f"there is no tenant {tenant!r}")
        found = self._billing.quote(tenant, body.endpoint, _plain(body.quantities), now_us())
        meters = [
            QuotedMeterView(
                meter=now.meter,
                quantity=now.quantity,
                estimated=now.meter in found.estimated,
                priced=now.price is not None,
                steps=now.steps,
                amount_micros=now.amount_micros,
                at_most_micros=most.amount_micros,
            )
            for now, most in zip(found.now.meters, found.at_most.meters, strict=True)
        ]
        return QuoteView(
            tenant=tenant,
            endpoint=body.endpoint,
            model=found.origin.model,
            variant=found.origin.variant,
            version=found.version,
            price_book=found.now.price_book,
            currency=found.now.total.currency,
            discount_ppm=found.now.discount_ppm,
            amount_micros=found.now.total.micros,
            at_most_micros=found.at_most.total.micros,
            meters=meters,
        )

    def _newest(self) -> dict[str, object] | None:
        books = self._bills.price_books()
        return {"version": books[-1].version, "digest": books[-1].book.digest} if books else None


def _plain(quantities: Mapping[Meter, int]) -> dict[str, int]:
    return {str(meter): quantity for meter, quantity in quantities.items()}


def _exists(identity: IdentityStore, tenant: str) -> bool:
    return any(tenant == found.name for found in identity.list_tenants())


def router(bills: BillStore, billing: Billing, identity: IdentityStore, changes: Changes) -> APIRouter:
    """Make the router of prices."""
    api = Bill(bills, billing, identity, changes)
    return table(
        "bill",
        Route("GET", "/prices", "bill", api.list_prices),
        Route("GET", "/prices/current", "bill", api.get_current_prices),
        Route("POST", "/prices", "sell", api.publish_prices, 201, everywhere=True),
        Route("POST", "/quote", "usage", api.quote),
    )


def _book(book: PublishedBook, who: Principal) -> BookView:
    inner = book.book
    return BookView(
        version=book.version,
        effective_at=book.effective_at,
        published_at=book.published_at,
        currency=inner.currency,
        digest=inner.digest,
        terms=tuple(terms for terms in inner.terms if _sees(who, terms.tenant)),
        prices=tuple(price for price in inner.prices if _sees(who, price.scope.tenant)),
    )


def _sees(who: Principal, tenant: str) -> bool:
    """Tell whether terms or a price of ``tenant`` are the caller's to see."""
    return tenant in (ANY, who.tenant) or who.reach == "platform"
