"""Price books, invoices and late usage in the database.

``Billing`` and the control API publish and invoice through it. Usage is handed in, as rows: it must not know the
ledger, which tells it of every fold.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from mofang.base.domain.billing import NUMBER_SERIES, DocumentKind, InvoiceState, may_become
from mofang.base.domain.errors import InvalidPeriod, InvoiceConflict, InvoiceNotFound, PriceBookNotFound
from mofang.base.domain.names import now_us
from mofang.base.storage.database import Database, metadata
from mofang.sell.bill.invoice import Document
from mofang.sell.bill.parse import parse_price_book
from mofang.sell.bill.pricebook import PublishedBook, book_at
from mofang.sell.meter.folding import Fold
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
    Column("kind", String, nullable=False),
    Column("tenant", String, nullable=False, index=True),
    Column("start_at", BigInteger, nullable=False),
    Column("end_at", BigInteger, nullable=False),
    Column("credits", String, nullable=False, index=True),  # the invoice a credit note is for
    Column("state", String, nullable=False),
    Column("number", String, nullable=False),  # empty: not issued
    Column("issued_at", BigInteger, nullable=False),  # 0: not issued
    Column("last_seq", BigInteger, nullable=False),  # of the ledger when it was issued; 0: not issued
    Column("ended_at", BigInteger, nullable=False),  # when paid or made void; 0: neither
    Column("document", String, nullable=False),  # the canonical bytes, ASCII
    Column("sha256", String, nullable=False),
)
_numbers = Table(
    "invoice_numbers",
    metadata,
    Column("series", String, primary_key=True),
    Column("last", BigInteger, nullable=False),
)
# Usage of an invoiced period that came after its invoice; it is in the ledger's windows as well.
_late = Table(
    "late_usage",
    metadata,
    Column("tenant", String, primary_key=True),
    Column("booked", BigInteger, primary_key=True, autoincrement=False),  # hour it came: the next invoice's
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # hour it was used
    Column("endpoint", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String, primary_key=True),
    Column("meter", String, primary_key=True),
    Column("start_at", BigInteger, nullable=False),  # of the invoiced period
    Column("end_at", BigInteger, nullable=False),
    Column("quantity", BigInteger, nullable=False),
)
# Names and addresses are kept apart from invoices, so that they can be erased.
_parties = Table(
    "parties",
    metadata,
    Column("tenant", String, primary_key=True),  # empty: the seller
    Column("title", String, nullable=False),
    Column("address", String, nullable=False),
    Column("email", String, nullable=False),
    Column("tax_id", String, nullable=False),
    Column("notes", String, nullable=False),
)
_ADD_LATE = text(
    "INSERT INTO late_usage (tenant, booked, hour, endpoint, version, digest, meter, start_at, end_at, quantity)"
    " VALUES (:tenant, :booked, :hour, :endpoint, :version, :digest, :meter, :start_at, :end_at, :quantity)"
    " ON CONFLICT (tenant, booked, hour, endpoint, version, digest, meter)"
    " DO UPDATE SET quantity = late_usage.quantity + excluded.quantity"
)
_FINAL = ("issued", "paid")


@dataclass(frozen=True, slots=True)
class Invoice:
    """A document, and what became of it. ``number`` is empty while it is a draft; times are 0 until they come."""

    document: Document
    state: InvoiceState
    number: str = ""
    issued_at: int = 0
    last_seq: int = 0  # of the ledger when it was issued: what came later is not in it
    ended_at: int = 0  # when it was paid, or made void

    @property
    def id(self) -> str:
        """The id of the document."""
        return self.document.id


@dataclass(frozen=True, slots=True)
class LateRow:
    """Usage of an invoiced period (``start`` to ``end``) that came in the hour ``booked``, after its invoice."""

    booked: int
    start: int
    end: int
    usage: UsageRow


@dataclass(frozen=True, slots=True)
class Party:
    """Who stands on invoices: the seller (``tenant`` empty) or a tenant. None of it is part of a document."""

    tenant: str
    title: str = ""  # the legal name
    address: str = ""  # with line breaks
    email: str = ""
    tax_id: str = ""
    notes: str = ""  # at the foot of what the seller sends: how to pay


class BillStore:
    """Publishes price books and keeps invoices."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def publish(self, book_text: str, effective_at: int | None = None) -> PublishedBook:
        """Publish a price book as the next version; raise InvalidPriceBook if it cannot be used.

        It is in force from the start of the hour that holds ``effective_at`` (now, if left out): prices change on full
        hours. Published books never change, and invoices keep naming those they were rated by.
        """
        book = parse_price_book(book_text)
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
                    text=book_text,
                    effective_at=published.effective_at,
                    published_at=published_at,
                )
            )
        return published

    def price_books(self) -> builtins.list[PublishedBook]:
        """List all versions, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(_books).order_by(_books.c.version)).all()
        return [
            PublishedBook(row.version, row.effective_at, row.published_at, parse_price_book(row.text)) for row in rows
        ]

    def current(self, at: int | None = None) -> PublishedBook:
        """Return the price book in force at ``at`` (now, if left out); raise PriceBookNotFound if none is."""
        at = now_us() if at is None else at
        book = book_at(self.price_books(), at)
        if book is None:
            raise PriceBookNotFound(f"no price book is in force at {describe(at)}")
        return book

    def add(self, document: Document) -> Invoice:
        """Store an invoice as a draft, or a credit note as issued.

        Raises InvoiceConflict if an issued invoice of the tenant shares an hour with the invoice.
        """
        state: InvoiceState = "draft" if document.kind == "invoice" else "issued"
        with self._database.write() as connection:
            if document.kind == "invoice":
                _check_free(connection, document)
            row: dict[str, Any] = {
                "id": document.id,
                "kind": document.kind,
                "tenant": document.tenant,
                "credits": document.credits,
            }
            row |= {"start_at": document.start, "end_at": document.end, "state": "draft", "number": ""}
            row |= {"document": document.canonical.decode("ascii"), "sha256": document.sha256}
            connection.execute(insert(_invoices).values(**row, issued_at=0, last_seq=0, ended_at=0))
            return self.move(document.id, state) if state != "draft" else self.get(document.id)

    def move(self, invoice_id: str, state: InvoiceState, *, last_seq: int = 0) -> Invoice:
        """Bring a document into ``state``; being there already is fine. Issuing gives it the next number.

        ``last_seq`` is that of the ledger's last event when it is issued.

        Raises InvoiceNotFound, or InvoiceConflict if that state does not follow, or an issued invoice has its hours.
        """
        with self._database.write() as connection:
            found = _invoice(_row(connection, invoice_id))
            if found.state == state:
                return found
            if not may_become(found.state, state):
                raise InvoiceConflict(f"{_named(found)} is {found.state} and cannot become {state}")
            changed: dict[str, Any] = {"state": state}
            if state == "issued":
                if found.document.kind == "invoice":
                    _check_free(connection, found.document)
                changed |= {"number": _next_number(connection, found.document.kind), "issued_at": now_us()}
                changed["last_seq"] = last_seq
            else:
                changed["ended_at"] = now_us()
            connection.execute(update(_invoices).where(_invoices.c.id == invoice_id).values(**changed))
            return replace(found, **changed)

    def get(self, invoice_id: str) -> Invoice:
        """Return an invoice or credit note; raise InvoiceNotFound."""
        with self._database.read() as connection:
            return _invoice(_row(connection, invoice_id))

    def stored(self, invoice_id: str) -> tuple[str, str]:
        """Return the canonical document as it is stored, and the SHA-256 stored beside it; raise InvoiceNotFound."""
        with self._database.read() as connection:
            row = _row(connection, invoice_id)
        return row.document, row.sha256

    def list(
        self, tenant: str | None = None, *, credits: str | None = None, after: str = "", limit: int = 100
    ) -> builtins.list[Invoice]:
        """List documents, of one tenant or of all, in the order they were made; ``after`` is the id to go on from.

        ``credits`` is the invoice whose credit notes are asked for.
        """
        query = select(_invoices).where(_invoices.c.id > after).order_by(_invoices.c.id).limit(limit)
        if tenant is not None:
            query = query.where(_invoices.c.tenant == tenant)
        if credits is not None:
            query = query.where(_invoices.c.credits == credits)
        with self._database.read() as connection:
            return [_invoice(row) for row in connection.execute(query)]

    def note_late(self, fold: Fold) -> None:
        """Keep what a fold brings of periods that are invoiced already; called in the transaction of the fold."""
        with self._database.write() as connection:
            periods = _issued_periods(connection, {series.tenant for series in fold.series.values()})
            booked = hour_of(now_us())
            rows = []
            for window in fold.windows:
                series = fold.series[window["series_id"]]
                period = next((p for p in periods.get(series.tenant, ()) if p[0] <= window["hour"] < p[1]), None)
                if period is not None and series.outcome == "ok":
                    row = {"tenant": series.tenant, "booked": booked, "hour": window["hour"], "meter": window["meter"]}
                    row |= {"endpoint": series.endpoint, "version": series.version, "digest": series.digest}
                    row |= {"start_at": period[0], "end_at": period[1], "quantity": window["quantity"]}
                    rows.append(row)
            if rows:
                connection.execute(_ADD_LATE, rows)

    def set_party(self, party: Party) -> Party:
        """Keep who stands on invoices, in place of what was kept."""
        with self._database.write() as connection:
            connection.execute(delete(_parties).where(_parties.c.tenant == party.tenant))
            connection.execute(insert(_parties).values(**asdict(party)))
        return party

    def party(self, tenant: str) -> Party:
        """Return who stands on invoices for ``tenant`` (empty: the seller); no more than the name if nobody said."""
        with self._database.read() as connection:
            row = connection.execute(select(_parties).where(_parties.c.tenant == tenant)).one_or_none()
        return Party(tenant) if row is None else Party(*row)

    def parties(self) -> builtins.list[Party]:
        """List all that are known, the seller first."""
        with self._database.read() as connection:
            return [Party(*row) for row in connection.execute(select(_parties).order_by(_parties.c.tenant))]

    def erase_party(self, subject: str) -> bool:
        """Remove the party of a tenant, or of that name or address for mail; tell whether there was any."""
        named = [column == subject for column in (_parties.c.tenant, _parties.c.title, _parties.c.email)]
        with self._database.write() as connection:
            return connection.execute(delete(_parties).where(or_(*named))).rowcount > 0

    def late_used(self, tenant: str, start: int, end: int) -> builtins.list[LateRow]:
        """Return the usage of a period that came after its invoice, in a fixed order."""
        return self._late(tenant, _late.c.hour.between(start, end - 1))

    def late_booked(self, tenant: str, start: int, end: int) -> builtins.list[LateRow]:
        """Return the usage of earlier periods that came in this one, after their invoices, in a fixed order."""
        return self._late(tenant, _late.c.booked.between(start, end - 1))

    def _late(self, tenant: str, which: ColumnElement[bool]) -> builtins.list[LateRow]:
        columns = (_late.c.endpoint, _late.c.version, _late.c.digest, _late.c.meter, _late.c.hour, _late.c.quantity)
        query = select(_late.c.booked, _late.c.start_at, _late.c.end_at, *columns).where(
            _late.c.tenant == tenant, which
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_late.c.booked, *columns)).all()
        return [LateRow(row[0], row[1], row[2], UsageRow(*row[3:])) for row in rows]


def _issued_periods(connection: Connection, tenants: set[str]) -> Mapping[str, Sequence[tuple[int, int]]]:
    query = select(_invoices.c.tenant, _invoices.c.start_at, _invoices.c.end_at).where(
        _invoices.c.tenant.in_(tenants), _invoices.c.state.in_(_FINAL), _invoices.c.kind == "invoice"
    )
    found: dict[str, list[tuple[int, int]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.tenant, []).append((row.start_at, row.end_at))
    return found


def _check_free(connection: Connection, document: Document) -> None:
    query = select(_invoices).where(
        _invoices.c.tenant == document.tenant,
        _invoices.c.kind == "invoice",
        _invoices.c.state.in_(_FINAL),
        _invoices.c.start_at < document.end,
        _invoices.c.end_at > document.start,
    )
    taken = connection.execute(query.limit(1)).one_or_none()
    if taken is not None:
        raise InvoiceConflict(
            f"{taken.number} invoices {document.tenant!r} from {describe(taken.start_at)} to {describe(taken.end_at)}",
            hint="usage is invoiced once: begin where that invoice ends, or make it void first",
        )


def _next_number(connection: Connection, kind: DocumentKind) -> str:
    """Return the next number of a series; without gaps, since it is committed with the document that has it."""
    series = NUMBER_SERIES[kind]
    last = connection.scalar(select(_numbers.c.last).where(_numbers.c.series == series))
    if last is None:
        connection.execute(insert(_numbers).values(series=series, last=1))
    else:
        connection.execute(update(_numbers).where(_numbers.c.series == series).values(last=last + 1))
    return f"{series}-{(last or 0) + 1:06d}"


def _row(connection: Connection, invoice_id: str) -> Row[Any]:
    row = connection.execute(select(_invoices).where(_invoices.c.id == invoice_id)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"there is no invoice {invoice_id!r}")
    return row


def _invoice(row: Row[Any]) -> Invoice:
    return Invoice(Document.read(row.document), row.state, row.number, row.issued_at, row.last_seq, row.ended_at)


def _named(invoice: Invoice) -> str:
    kind = "invoice" if invoice.document.kind == "invoice" else "credit note"
    return f"{kind} {invoice.number or invoice.id}"
