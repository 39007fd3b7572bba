"""Invoices: what a tenant pays for a period, as a document that can be recomputed to the byte.

Built from usage and price books alone; the canonical bytes are what is stored, hashed, handed out and compared. Number
and state are not part of them: issuing an invoice does not change what it says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from mofang.base.domain.billing import DocumentKind
from mofang.base.domain.errors import InvalidPeriod, PriceBookNotFound
from mofang.base.domain.money import Money, round_half_even
from mofang.base.domain.registry import canonical_json
from mofang.sell.bill.pricebook import PPM, PublishedBook, Terms, books_in_force
from mofang.sell.bill.rating import InvoiceLine, Origins, Unrated, plain_line, rate
from mofang.sell.meter.windows import UsageRow, check_period, describe


@dataclass(frozen=True, slots=True, order=True)
class BookRef:
    """The price book an invoice was rated by."""

    version: int
    digest: str
    effective_at: int


class LateUsage(NamedTuple):
    """Usage of an invoiced period that came after its invoice: what was known by then, and what came since."""

    start: int
    end: int
    known: Sequence[UsageRow]
    late: Sequence[UsageRow]


@dataclass(frozen=True, slots=True)
class Document:
    """What ``tenant`` owes for ``start`` up to ``end`` (microseconds, full hours), or is given back."""

    id: str
    kind: DocumentKind
    tenant: str
    start: int
    end: int
    currency: str
    price_books: tuple[BookRef, ...]
    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]  # usage of meters without a price
    tax_ppm: int
    created_at: int
    credits: str = ""  # id of the invoice that a credit note is for
    reason: str = ""  # of a credit note

    @property
    def net(self) -> Money:
        """The sum of the lines."""
        return Money(sum(line.amount_micros for line in self.lines), self.currency)

    @property
    def tax(self) -> Money:
        """The tax on it, rounded once."""
        return Money(round_half_even(Fraction(self.net.micros * self.tax_ppm, PPM)), self.currency)

    @property
    def total(self) -> Money:
        """What is to be paid: net and tax."""
        return self.net + self.tax

    @property
    def due(self) -> Money:
        """The total as it can be paid, rounded to the smallest coin."""
        return self.total.payable()

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The endpoints whose usage has no price at all."""
        priced = {part.endpoint for line in self.lines for part in line.parts}
        return tuple(sorted({row.endpoint for row in self.unrated} - priced))

    @property
    def canonical(self) -> bytes:
        """The document: canonical JSON, integers only."""
        sums = {"net_micros": self.net.micros, "tax_micros": self.tax.micros, "total_micros": self.total.micros}
        sums["due_micros"] = self.due.micros
        return canonical_json(msgspec.to_builtins(self) | sums)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of :attr:`canonical`."""
        return hashlib.sha256(self.canonical).hexdigest()

    @classmethod
    def read(cls, canonical: str) -> Document:
        """Return the document that has these canonical bytes."""
        return msgspec.convert(json.loads(canonical), cls)


def make_invoice(
    invoice_id: str,
    tenant: str,
    start: int,
    end: int,
    usage: Sequence[UsageRow],
    books: Sequence[PublishedBook],
    created_at: int,
    origins: Origins = MappingProxyType({}),
    late: Sequence[LateUsage] = (),
) -> Document:
    """Rate ``usage`` by those of ``books`` in force in the period; the same arguments always make the same bytes.

    ``late`` is what came of earlier periods after their invoices: each adds lines of the difference it makes. Raises
    PriceBookNotFound if no book is in force in the period, and InvalidPeriod if the period is empty or not of full
    hours, if usage lies outside of it, or if the tenant's currency changes inside of it.
    """
    check_period(start, end)
    for row in usage:
        if not start <= row.hour < end:
            raise InvalidPeriod(f"usage of {describe(row.hour)} is not in the period that ends {describe(end)}")
    valid, terms = _in_force(books, tenant, start, end)
    rating = rate(usage, valid, tenant, start, end, origins)
    lines = [*rating.lines]
    for earlier in sorted(late, key=lambda it: it.start):
        lines += _adjust(len(lines) + 1, earlier, books, tenant, terms.currency, origins)
    of_late = {book for it in late for book in books_in_force(books, it.start, it.end)}
    named = sorted({BookRef(book.version, book.book.digest, book.effective_at) for book in {*valid, *of_late}})
    return Document(
        id=invoice_id,
        kind="invoice",
        tenant=tenant,
        start=start,
        end=end,
        currency=terms.currency,
        price_books=tuple(named),
        lines=tuple(lines),
        unrated=rating.unrated,
        tax_ppm=terms.tax_ppm,
        created_at=created_at,
    )


def _in_force(
    books: Sequence[PublishedBook], tenant: str, start: int, end: int
) -> tuple[Sequence[PublishedBook], Terms]:
    """Return the books of the period, and the terms of its last one, which hold for the whole."""
    valid = books_in_force(books, start, end)
    if not valid:
        raise PriceBookNotFound(f"no price book is in force before {describe(end)}")
    first = valid[0].book.terms_of(tenant)
    for book in valid:
        terms = book.book.terms_of(tenant)
        if terms.currency != first.currency:
            raise InvalidPeriod(
                f"the currency changes to {terms.currency} at {describe(book.effective_at)}",
                hint="make two invoices: one up to then, one from then on",
            )
    return valid, terms


def _adjust(
    first: int, late: LateUsage, books: Sequence[PublishedBook], tenant: str, currency: str, origins: Origins
) -> Iterator[InvoiceLine]:
    """Yield the lines that differ between the earlier period as it was invoiced and as it is now known."""
    valid, terms = _in_force(books, tenant, late.start, late.end)
    if terms.currency != currency:
        raise InvalidPeriod(
            f"late usage of the period from {describe(late.start)} is in {terms.currency}, this invoice in {currency}",
            hint="void the invoice of that period and make it again",
        )
    before = rate(late.known, valid, tenant, late.start, late.end, origins)
    after = rate([*late.known, *late.late], valid, tenant, late.start, late.end, origins)
    was = {_place(line): line.amount_micros for line in before.lines}
    counted = {_place(line): line for line in rate(late.late, valid, tenant, late.start, late.end, origins).lines}
    places = {_place(line): line for line in (*before.lines, *after.lines)}
    now = {_place(line): line.amount_micros for line in after.lines}
    for place, line in places.items():
        amount = now.get(place, 0) - was.get(place, 0)
        if amount:
            usage = counted.get(place) if line.kind == "usage" else None
            made = plain_line(first, "adjustment", late.start, late.end, amount, line.price_book, scope=line.scope)
            yield replace(made, quantity=usage.quantity, parts=usage.parts) if usage else made
            first += 1


def _place(line: InvoiceLine) -> tuple[object, ...]:
    return line.kind, line.price_book, line.scope


def make_credit_note(
    note_id: str, invoice: Document, amounts: Iterable[tuple[int, int]], reason: str, created_at: int
) -> Document:
    """Return the note that gives back ``amounts`` (line number, positive micro-units before tax) of ``invoice``.

    The tax on them is given back as well. The caller has checked that they are no more than what is left of the lines.
    """
    by_number = {line.number: line for line in invoice.lines}
    lines: list[InvoiceLine] = []
    for number, micros in sorted(amounts):
        line = by_number[number]
        made = plain_line(len(lines) + 1, "credit", line.start, line.end, -micros, scope=line.scope, of=(number,))
        lines.append(made)
    return replace(
        invoice,
        id=note_id,
        kind="credit_note",
        lines=tuple(lines),
        unrated=(),
        created_at=created_at,
        credits=invoice.id,
        reason=reason,
    )
