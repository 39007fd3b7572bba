"""Price books and invoices in the database.

The control API publishes and invoices through it. Usage is handed in, as rows: it must not know the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, Row, String, Table, func, insert, select, update

from mofang.base.domain.errors import InvalidPeriod, InvoiceNotFound, PriceBookNotFound
from mofang.base.domain.names import new_id, now_us
from mofang.base.storage.database import Database, metadata
from mofang.sell.bill.invoice import BookRef, Invoice, make_invoice
from mofang.sell.bill.pricebook import PublishedBook, book_at, parse_price_book
from mofang.sell.bill.rating import InvoiceLine, Unrated
from mofang.sell.meter.windows import MAX_AT, UsageRow, describe, hour_of

_books = Table(
    "price_books",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", String, nullable=False),
    Column("effective_at", BigInteger, nullable=False),
    Column("published_at", BigInteger, nullable=False),
)
_invoices = Table(
    "invoices",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("state", String, nullable=False),
    Column("document", String, nullable=False),  # the canonical bytes, ASCII
    Column("sha256", String, nullable=False),
)


@dataclass(frozen=True, slots=True)
class InvoiceCheck:
    """Whether an invoice is what its usage and prices make it: the stored hash and the recomputed one."""

    id: str
    matches: bool
    sha256: str
    recomputed_sha256: str


class BillStore:
    """Publishes price books and keeps invoices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(self, text: str, effective_at: int | None = None) -> PublishedBook:
        """Publish a price book as the next version; raise InvalidPriceBook if it cannot be used.

        It is in force from the start of the hour that holds ``effective_at`` (now, if left out): prices change on full
        hours. Published books never change, and invoices keep naming those they were rated by.
        """
        book = parse_price_book(text)
        published_at = now_us()
        at = published_at if effective_at is None else effective_at
        if not 0 <= at < MAX_AT:
            raise InvalidPeriod(f"a price book cannot be in force from {describe(at)}")
        with self._database.write() as connection:
            version = (connection.scalar(select(func.max(_books.c.version))) or 0) + 1
            published = PublishedBook(version, hour_of(at), published_at, book)
            connection.execute(
                insert(_books).values(
                    version=version,
                    text=text,
                    effective_at=published.effective_at,
                    published_at=published_at,
                )
            )
        return published

    def price_books(self) -> list[PublishedBook]:
        """List all versions, oldest first."""
        with self._database.read() as connection:
            return _all_books(connection)

    def current(self, at: int | None = None) -> PublishedBook:
        """Return the price book in force at ``at`` (now, if left out); raise PriceBookNotFound if none is."""
        at = now_us() if at is None else at
        book = book_at(self.price_books(), at)
        if book is None:
            raise PriceBookNotFound(f"no price book is in force at {describe(at)}")
        return book

    def create(self, tenant: str, start: int, end: int, usage: Sequence[UsageRow]) -> Invoice:
        """Rate ``usage`` of ``tenant`` in the period and store the invoice as a draft. Raises as make_invoice does."""
        with self._database.write() as connection:
            books = _all_books(connection)
            invoice = make_invoice(new_id("inv"), tenant, start, end, usage, books, now_us())
            connection.execute(
                insert(_invoices).values(
                    id=invoice.id,
                    tenant=tenant,
                    state=invoice.state,
                    document=invoice.canonical.decode("ascii"),
                    sha256=invoice.sha256,
                )
            )
        return invoice

    def issue(self, invoice_id: str) -> Invoice:
        """Make a draft final; raise InvalidPeriod while its period has not ended. Issuing again does nothing."""
        with self._database.write() as connection:
            invoice = _invoice(_row(connection, invoice_id))
            if invoice.end > now_us():
                raise InvalidPeriod(
                    f"the period of invoice {invoice_id!r} ends {describe(invoice.end)}: usage still comes"
                )
            connection.execute(update(_invoices).where(_invoices.c.id == invoice_id).values(state="issued"))
        return replace(invoice, state="issued")

    def get(self, invoice_id: str) -> Invoice:
        """Return an invoice; raise InvoiceNotFound."""
        with self._database.read() as connection:
            return _invoice(_row(connection, invoice_id))

    def list(self, tenant: str | None = None, *, after: str = "", limit: int = 100) -> list[Invoice]:
        """List invoices, of one tenant or of all, in the order they were made; ``after`` is the id to go on from."""
        query = select(_invoices).where(_invoices.c.id > after).order_by(_invoices.c.id).limit(limit)
        if tenant is not None:
            query = query.where(_invoices.c.tenant == tenant)
        with self._database.read() as connection:
            return [_invoice(row) for row in connection.execute(query)]

    def verify(self, invoice_id: str, usage: Sequence[UsageRow]) -> InvoiceCheck:
        """Make the invoice again from ``usage`` and the price books it names, and compare it byte by byte."""
        with self._database.read() as connection:
            row = _row(connection, invoice_id)
            invoice = _invoice(row)
            named = {book.version for book in invoice.price_books}
            books = [book for book in _all_books(connection) if book.version in named]
        again = make_invoice(invoice.id, invoice.tenant, invoice.start, invoice.end, usage, books, invoice.created_at)
        matches = again.canonical == row.document.encode() and again.sha256 == row.sha256
        return InvoiceCheck(invoice_id, matches, row.sha256, again.sha256)


def _all_books(connection: Connection) -> list[PublishedBook]:
    rows = connection.execute(select(_books).order_by(_books.c.version))
    return [PublishedBook(row.version, row.effective_at, row.published_at, parse_price_book(row.text)) for row in rows]


def _row(connection: Connection, invoice_id: str) -> Row[Any]:
    row = connection.execute(select(_invoices).where(_invoices.c.id == invoice_id)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"there is no invoice {invoice_id!r}")
    return row


def _invoice(row: Row[Any]) -> Invoice:
    document = json.loads(row.document)
    del document["total_micros"]
    return Invoice(
        **{
            **document,
            "price_books": tuple(BookRef(**entry) for entry in document["price_books"]),
            "lines": tuple(InvoiceLine(**entry) for entry in document["lines"]),
            "unrated": tuple(Unrated(**entry) for entry in document["unrated"]),
            "unpriced": tuple(document["unpriced"]),
        },
        state=row.state,
    )
