"""Billing: brings usage, prices and invoices together. The control API calls it; all that decides is in pure modules.

Every step reads and writes inside the transaction of its caller, if there is one, so that an invoice and the ledger it
was made from never differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import InvalidInvoice, InvalidPeriod, InvoiceConflict
from mofang.base.domain.names import new_id, now_us
from mofang.sell.bill.invoice import Document, LateUsage, make_credit_note, make_invoice
from mofang.sell.bill.pricebook import COSTS_AS, PriceScope, PublishedBook, book_at
from mofang.sell.bill.quote import Quote, estimate, quote_meters
from mofang.sell.bill.rating import UNKNOWN, InvoiceLine, Origin, Served, Tell, count_by_price, less, served
from mofang.sell.bill.store import BillStore, Invoice, LateRow
from mofang.sell.meter.pages import UsagePage, Use
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import HOUR_US, UsageRow, describe, hour_of, month_of


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """Whether an invoice is what its usage and prices make it, to the byte, and whether sums and events agree."""

    id: str
    matches: bool
    events_match: bool
    sha256: str
    recomputed_sha256: str


@dataclass(frozen=True, slots=True)
class UsageQuote:
    """What usage of an endpoint would cost: added to what was used this month, and at most in any month.

    ``estimated`` names the meters whose quantity is what earlier requests used.
    """

    version: int
    origin: Origin
    now: Quote
    at_most: Quote
    estimated: frozenset[str]


class Billing:
    """Quotes; makes, issues, corrects, traces and verifies invoices.

    ``serving`` returns the revision that answers for an endpoint, or raises EndpointNotFound.
    """

    def __init__(
        self,
        bills: BillStore,
        usage: UsageStore,
        origins: Tell,
        serving: Callable[[str], Revision],
        grace_us: int = 0,
    ) -> None:
        self._bills = bills
        self._usage = usage
        self._origins = origins
        self._serving = serving
        self._grace_us = grace_us

    def quote(self, tenant: str, endpoint: str, quantities: Mapping[str, int], at: int) -> UsageQuote:
        """Price ``quantities`` (meter -> units) of a request or a batch job before it runs.

        Meters that nobody can know before (compute time, bytes) are estimated, as far as they have a price and the
        version answered before. Raises EndpointNotFound, or PriceBookNotFound.
        """
        revision = self._serving(endpoint)
        digest, version = revision.digest, revision.version
        asked = Served(endpoint, digest, version)
        origin = self._origins({asked}).get(asked, UNKNOWN)
        books = self._bills.price_books()
        book = book_at(books, at)
        counted: Mapping[PriceScope, int] = {}
        guessed: Mapping[str, int] = {}
        used: dict[str, int] = {}
        if book is not None:
            month = self._usage.billable(tenant, month_of(at), hour_of(at) + HOUR_US)
            counted = count_by_price(month, book.book, tenant, self._origins({*map(served, month)}))
            guessed = estimate(quantities, self._measured(endpoint, digest))
            priced = {m: book.book.find(PriceScope(tenant, endpoint, *origin, m)) for m in (*quantities, *guessed)}
            guessed = {meter: quantity for meter, quantity in guessed.items() if priced[meter]}
            used = {meter: counted.get(price.scope, 0) for meter, price in priced.items() if price}
        where: dict[str, Any] = {"tenant": tenant, "endpoint": endpoint, "model": origin.model, "at": at}
        where |= {"variant": origin.variant}
        wanted = {**guessed, **quantities}
        now, most = (quote_meters(books, wanted, **where, used=it) for it in (used, None))
        return UsageQuote(version, origin, now, most, frozenset(guessed))

    def _measured(self, endpoint: str, digest: str) -> dict[str, int]:
        """Return all that a version ever used behind an endpoint, by meter."""
        totals = self._usage.totals((), filters={"endpoint": endpoint, "digest": digest, "outcome": "ok"})
        return {total.group["meter"]: total.quantity for total in totals}

    def draft(self, tenant: str, start: int, end: int) -> Invoice:
        """Make the invoice of a tenant for a period, as a draft. Raises as make_invoice does, and InvoiceConflict."""
        made = self._make(new_id("inv"), tenant, start, end, self._bills.price_books(), now_us())
        return self._bills.add(made)

    def rated(self, tenant: str, start: int, end: int) -> Document:
        """Return what an invoice of that period would say now. Raises as make_invoice does."""
        return self._make("", tenant, start, end, self._bills.price_books(), now_us())

    def issue(self, invoice_id: str) -> Invoice:
        """Make a draft final and give it the next number. Issuing again does nothing.

        Raises InvalidPeriod until the grace time after its period is over, and InvoiceConflict if usage or prices that
        came since make it another invoice. From then on, usage that still comes for its period is late: it becomes an
        adjustment of the next invoice.
        """
        found = self._bills.get(invoice_id)
        if found.state != "draft":
            return self._bills.move(invoice_id, "issued")
        document = found.document
        if document.end + self._grace_us > now_us():
            raise InvalidPeriod(
                f"the period of invoice {invoice_id!r} ends {describe(document.end)}: usage still comes",
                hint=f"it can be issued from {describe(document.end + self._grace_us)} on",
            )
        books = self._bills.price_books()
        again = self._make(invoice_id, document.tenant, document.start, document.end, books, document.created_at)
        if again.canonical != document.canonical:
            raise InvoiceConflict(
                f"draft {invoice_id} is out of date: usage or prices came since, the total is now {again.total}",
                hint=f"make it again: `mofang invoice create --tenant {document.tenant}`",
            )
        return self._bills.move(invoice_id, "issued", last_seq=self._usage.count())

    def pay(self, invoice_id: str) -> Invoice:
        """Note that an invoice was paid, or that the money of a credit note went back."""
        return self._bills.move(invoice_id, "paid")

    def void(self, invoice_id: str) -> Invoice:
        """Make a draft or an unpaid invoice void; its hours can be invoiced again, its number stays taken."""
        if self.credit_notes(invoice_id):
            raise InvoiceConflict(f"invoice {invoice_id} has credit notes and cannot become void")
        return self._bills.move(invoice_id, "void")

    def credit(self, invoice_id: str, amounts: Iterable[tuple[int, int]] | None, reason: str) -> Invoice:
        """Issue a credit note that gives back ``amounts`` (line, positive micro-units) of an issued or paid invoice.

        None: all that is left of it. Raises InvoiceConflict if it was not issued, or nothing is left; InvalidInvoice
        for an amount or a line that cannot be.
        """
        found = self._bills.get(invoice_id)
        if found.document.kind != "invoice" or found.state not in ("issued", "paid"):
            raise InvoiceConflict(f"only an issued or paid invoice can be credited, {invoice_id} is {found.state}")
        left = {line.number: line.amount_micros for line in found.document.lines}
        for note in self.credit_notes(invoice_id):
            for line in note.document.lines:
                left[line.of[0]] += line.amount_micros
        chosen = [*left.items()] if amounts is None else _check_credit(amounts, left, found)
        chosen = [(number, micros) for number, micros in chosen if micros]
        if not chosen:
            raise InvoiceConflict(f"nothing is left of invoice {found.number} to be given back")
        return self._bills.add(make_credit_note(new_id("cn"), found.document, chosen, reason, now_us()))

    def credit_notes(self, invoice_id: str) -> Sequence[Invoice]:
        """Return the credit notes of an invoice that are not void, oldest first."""
        return [note for note in self._bills.list(credits=invoice_id, limit=10_000) if note.state != "void"]

    def verify(self, invoice_id: str) -> InvoiceCheck:
        """Make a document again from usage and the price books it names, compare it byte by byte, count its events."""
        document = self._bills.get(invoice_id).document
        stored, sha256 = self._bills.stored(invoice_id)
        if document.kind == "credit_note":
            invoice = self._bills.get(document.credits).document
            amounts = [(line.of[0], -line.amount_micros) for line in document.lines]
            again = make_credit_note(document.id, invoice, amounts, document.reason, document.created_at)
            events_match = True
        else:
            named = {book.version for book in document.price_books}
            books = [book for book in self._bills.price_books() if book.version in named]
            period = (document.tenant, document.start, document.end)
            again = self._make(document.id, *period, books, document.created_at)
            events_match = self._usage.recount(*period) == self._usage.billable(*period)
        matches = again.canonical == stored.encode() and again.sha256 == sha256
        return InvoiceCheck(invoice_id, matches, events_match, sha256, again.sha256)

    def trace(self, invoice_id: str, number: int, *, after: int = 0, limit: int = 100) -> UsagePage:
        """List the events that a line of usage, or an adjustment, comes from, in the order of the ledger.

        Raises InvalidInvoice if there is no such line, or it comes from other lines.
        """
        found = self._bills.get(invoice_id)
        line = _line(found.document, number)
        if line.of:
            raise InvalidInvoice(f"line {number} of {invoice_id} comes from lines {', '.join(map(str, line.of))}")
        if not line.parts:
            return UsagePage([], None)
        if line.kind == "adjustment":
            after = max(after, self._closed_at(found.document.tenant, line))
        return self._usage.trace(
            found.document.tenant,
            self._uses(found.document.tenant, line),
            line.start,
            line.end,
            after=after,
            last=found.last_seq or None,
            limit=limit,
        )

    def _uses(self, tenant: str, line: InvoiceLine) -> dict[str, set[Use]]:
        """Return what a line counts, by meter: the one its price names, and those which cost as that."""
        book = next((each.book for each in self._bills.price_books() if each.version == line.price_book), None)
        uses: dict[str, set[Use]] = {line.scope.meter: set()}
        for meter in (line.scope.meter, *COSTS_AS):
            for part in line.parts:
                scope = PriceScope(tenant, part.endpoint, part.model, part.variant, meter)
                price = None if book is None else book.find(scope)
                if meter == line.scope.meter or (price is not None and price.scope == line.scope):
                    uses.setdefault(meter, set()).add((part.endpoint, part.version, part.digest))
        return uses

    def _closed_at(self, tenant: str, line: InvoiceLine) -> int:
        """Return the last event that the newest invoice of the line's period knew."""
        documents = self._bills.list(tenant, limit=100_000)
        return max(
            (it.last_seq for it in documents if (it.document.start, it.document.end) == (line.start, line.end)),
            default=0,
        )

    def _make(
        self, invoice_id: str, tenant: str, start: int, end: int, books: Sequence[PublishedBook], created_at: int
    ) -> Document:
        usage = less(
            self._usage.billable(tenant, start, end), [row.usage for row in self._bills.late_used(tenant, start, end)]
        )
        late = self._late(tenant, start, end)
        rows = [*usage, *(row for it in late for row in (*it.known, *it.late))]
        origins = self._origins({*map(served, rows)})
        return make_invoice(invoice_id, tenant, start, end, usage, books, created_at, origins, late)

    def _late(self, tenant: str, start: int, end: int) -> list[LateUsage]:
        """Return the late usage that came from ``start`` up to ``end``, by the period it belongs to."""
        periods: dict[tuple[int, int], list[UsageRow]] = {}
        for row in self._bills.late_booked(tenant, start, end):
            periods.setdefault((row.start, row.end), []).append(row.usage)
        return [LateUsage(*period, self._known(tenant, *period, start), rows) for period, rows in periods.items()]

    def _known(self, tenant: str, start: int, end: int, before: int) -> list[UsageRow]:
        """Return what was known of a period ``before`` a time: all of it but what came later."""
        later: list[LateRow] = [row for row in self._bills.late_used(tenant, start, end) if row.booked >= before]
        return less(self._usage.billable(tenant, start, end), [row.usage for row in later])


def _line(document: Document, number: int) -> InvoiceLine:
    for line in document.lines:
        if line.number == number:
            return line
    raise InvalidInvoice(f"invoice {document.id} has no line {number}, it has {len(document.lines)}")


def _check_credit(amounts: Iterable[tuple[int, int]], left: dict[int, int], found: Invoice) -> list[tuple[int, int]]:
    chosen: dict[int, int] = {}
    for number, micros in amounts:
        _line(found.document, number)
        chosen[number] = chosen.get(number, 0) + micros
        if micros <= 0 or chosen[number] > left[number]:
            raise InvalidInvoice(
                f"line {number} of invoice {found.number} has {max(0, left[number])} micro-units left to give back, "
                f"not {chosen[number]}"
            )
    if sum(chosen.values()) > sum(left.values()):
        raise InvalidInvoice(f"all of invoice {found.number} has only {sum(left.values())} micro-units left")
    return [*chosen.items()]
