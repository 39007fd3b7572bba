from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from mofang.base.domain.errors import InvalidPeriod, InvoiceNotFound, PriceBookNotFound
from mofang.base.domain.money import Money
from mofang.base.domain.names import now_us
from mofang.base.storage.database import Database
from mofang.sell.bill.invoice import make_invoice
from mofang.sell.bill.pricebook import PublishedBook, parse_price_book
from mofang.sell.bill.store import BillStore
from mofang.sell.meter.windows import DAY_US, HOUR_US, UsageRow, hour_of

NOON = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
CHEAP = 'currency = "EUR"\n[[price]]\nmeter = "rows"\nper = 1000\namount = "0.50"\n'
DEAR = CHEAP.replace("0.50", "0.75")


def row(quantity: int = 1001, hour: int = NOON, endpoint: str = "digits", meter: str = "rows") -> UsageRow:
    return UsageRow(endpoint, 1, "sha256:aa", meter, hour, quantity)


@pytest.fixture
def bills(database: Database) -> BillStore:
    return BillStore(database)


def test_published_books_are_numbered_and_the_latest_start_is_in_force(bills: BillStore) -> None:
    with pytest.raises(PriceBookNotFound):
        bills.current()
    first = bills.publish(CHEAP, NOON + 5)
    later = bills.publish(DEAR, NOON + DAY_US)
    assert (first.version, first.effective_at, later.version) == (1, NOON, 2)
    assert bills.current(NOON) == first
    assert bills.current(NOON + DAY_US - 1) == first
    assert bills.current(NOON + DAY_US) == later
    correction = bills.publish(CHEAP, NOON)
    assert bills.current(NOON) == correction
    assert bills.price_books() == [first, later, correction]
    with pytest.raises(PriceBookNotFound):
        bills.current(NOON - 1)
    json.dumps([book.to_dict() for book in bills.price_books()])


def test_a_book_without_a_date_is_in_force_now(bills: BillStore) -> None:
    published = bills.publish(CHEAP)
    assert bills.current() == published
    assert published.effective_at % HOUR_US == 0
    with pytest.raises(InvalidPeriod):
        bills.publish(CHEAP, -1)


def test_an_invoice_is_stored_as_it_was_made(bills: BillStore) -> None:
    bills.publish(CHEAP, NOON)
    usage = [row(), row(500, NOON + HOUR_US), row(7, meter="requests"), row(3, endpoint="words", meter="requests")]
    made = bills.create("acme", NOON, NOON + DAY_US, usage)
    assert bills.get(made.id) == made
    assert made.state == "draft"
    assert made.total == Money(750_500, "EUR")
    assert [(line.quantity, line.amount_micros) for line in made.lines] == [(1501, 750_500)]
    assert [(part.endpoint, part.quantity) for part in made.unrated] == [("digits", 7), ("words", 3)]
    assert made.unpriced == ("words",)
    document = made.to_dict()
    assert document["total_micros"] == 750_500
    assert document["price_books"] == [{"version": 1, "digest": parse_price_book(CHEAP).digest, "effective_at": NOON}]
    json.dumps(document)
    with pytest.raises(InvoiceNotFound):
        bills.get("inv_none")


def test_invoices_are_listed_by_tenant_in_order(bills: BillStore) -> None:
    bills.publish(CHEAP, NOON)
    made = [bills.create(tenant, NOON, NOON + DAY_US, [row()]) for tenant in ("acme", "other", "acme")]
    assert {invoice.id for invoice in bills.list()} == {invoice.id for invoice in made}
    assert {invoice.id for invoice in bills.list("acme")} == {made[0].id, made[2].id}
    first, *rest = bills.list(limit=2)
    assert bills.list(after=first.id)[:1] == rest


def test_a_price_change_inside_the_period_splits_its_lines(bills: BillStore) -> None:
    bills.publish(CHEAP, NOON)
    bills.publish(DEAR, NOON + HOUR_US)
    invoice = bills.create("acme", NOON, NOON + DAY_US, [row(1000), row(1000, NOON + HOUR_US)])
    assert [(line.price_book, line.amount_micros) for line in invoice.lines] == [(1, 500_000), (2, 750_000)]
    assert [book.version for book in invoice.price_books] == [1, 2]


def test_verify_recomputes_to_the_byte(bills: BillStore) -> None:
    bills.publish(CHEAP, NOON)
    usage = [row(), row(500, NOON + HOUR_US)]
    invoice = bills.create("acme", NOON, NOON + DAY_US, usage)
    bills.publish(DEAR, NOON)  # a later correction does not change what was invoiced
    check = bills.verify(invoice.id, usage[::-1])
    assert check.matches
    assert check.sha256 == check.recomputed_sha256 == invoice.sha256
    assert not bills.verify(invoice.id, [row()]).matches
    assert not bills.verify(invoice.id, [*usage, row(1, meter="requests")]).matches


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE invoices SET document = replace(document, '750500', '750499')",
        "UPDATE invoices SET document = replace(document, 'acme', 'acmf')",
        "UPDATE invoices SET document = document || ' '",
        "UPDATE invoices SET sha256 = 'ff'",
        "UPDATE price_books SET text = replace(text, '0.50', '0.49')",
        "UPDATE price_books SET text = text || '# '",
    ],
)
def test_verify_finds_what_was_changed_behind_its_back(bills: BillStore, database: Database, tampering: str) -> None:
    bills.publish(CHEAP, NOON)
    invoice = bills.create("acme", NOON, NOON + DAY_US, [row(1501)])
    usage = [row(1501)]
    assert bills.verify(invoice.id, usage).matches
    with database.write() as connection:
        connection.execute(text(tampering))
    assert not bills.verify(invoice.id, usage).matches


def test_a_draft_becomes_final_when_its_period_is_over(bills: BillStore) -> None:
    bills.publish(CHEAP, NOON - DAY_US * 300)
    past = bills.create("acme", NOON - DAY_US * 300, NOON - DAY_US * 299, [])
    this_hour = hour_of(now_us())
    running = bills.create("acme", this_hour, this_hour + HOUR_US * 2, [])
    assert bills.issue(past.id).state == "issued"
    assert bills.issue(past.id) == bills.get(past.id)
    assert bills.get(past.id).sha256 == past.sha256
    assert bills.verify(past.id, []).matches
    with pytest.raises(InvalidPeriod, match="usage still comes"):
        bills.issue(running.id)
    with pytest.raises(InvoiceNotFound):
        bills.issue("inv_none")


def test_what_cannot_be_invoiced_is_refused_and_leaves_nothing(bills: BillStore) -> None:
    with pytest.raises(PriceBookNotFound):
        bills.create("acme", NOON, NOON + DAY_US, [row()])
    bills.publish(CHEAP, NOON)
    bills.publish(CHEAP.replace("EUR", "USD"), NOON + HOUR_US)
    for start, end, message in [
        (NOON, NOON, "empty"),
        (NOON + 1, NOON + HOUR_US, "full hour"),
        (NOON, NOON + DAY_US, "currency changes to USD"),
        (NOON + HOUR_US, NOON + DAY_US, "not in the period"),
    ]:
        with pytest.raises(InvalidPeriod, match=message):
            bills.create("acme", start, end, [row()])
    assert bills.list() == []


_rows = st.lists(
    st.builds(
        row,
        quantity=st.integers(0, 2**50),
        hour=st.integers(0, 23).map(lambda hour: NOON + hour * HOUR_US),
        endpoint=st.sampled_from(["digits", "words"]),
        meter=st.sampled_from(["rows", "requests"]),
    ),
    max_size=20,
)


@given(_rows, st.randoms(use_true_random=False))
def test_the_total_is_the_sum_of_lines_and_a_rerun_the_same_bytes(usage: list[UsageRow], chance: random.Random) -> None:
    books = [
        PublishedBook(1, NOON - DAY_US, 0, parse_price_book(CHEAP)),
        PublishedBook(2, NOON + 3 * HOUR_US, 0, parse_price_book(DEAR)),
    ]
    invoice = make_invoice("inv_1", "acme", NOON, NOON + DAY_US, usage, books, NOON)
    shuffled = chance.sample(usage, len(usage))
    again = make_invoice("inv_1", "acme", NOON, NOON + DAY_US, shuffled, books[::-1], NOON)
    assert again.canonical == invoice.canonical
    assert invoice.total.micros == sum(line.amount_micros for line in invoice.lines)
    document = json.loads(invoice.canonical, parse_float=lambda text: pytest.fail(f"a float in an invoice: {text}"))
    assert document["total_micros"] == invoice.total.micros
