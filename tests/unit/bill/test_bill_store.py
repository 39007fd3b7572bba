"""Price books and invoices in the database, through their whole life, with a real ledger."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from mofang.base.domain.billing import INVOICE_NEXT, may_become
from mofang.base.domain.errors import (
    EndpointNotFound,
    InvalidInvoice,
    InvalidPeriod,
    InvoiceConflict,
    InvoiceNotFound,
    PriceBookNotFound,
)
from mofang.base.domain.money import Money
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.invoice import Document, make_credit_note, make_invoice
from mofang.sell.bill.paper import csv_text, html_page
from mofang.sell.bill.parse import parse_price_book
from mofang.sell.bill.pricebook import PublishedBook
from mofang.sell.bill.store import BillStore, Invoice, Party
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import DAY_US, HOUR_US, UsageRow, hour_of

NOON = 1_793_534_400_000_000  # 2026-11-01T12:00:00Z
CHEAP = 'currency = "EUR"\n[[price]]\nmeter = "rows"\nper = 1000\namount = "0.50"\n'
DEAR = CHEAP.replace("0.50", "0.75")
NOW = hour_of(now_us())


def never(endpoint: str) -> None:
    raise EndpointNotFound(endpoint)


@dataclass
class Shop:
    """A ledger, its bills, and the billing of both."""

    database: Database
    bills: BillStore
    usage: UsageStore
    billing: Billing
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def use(self, rows: int, at: int, tenant: str = "acme", **changes: object) -> None:
        number = next(self.numbers)
        record = {
            "request_id": f"req_{number}", "at": at, "tenant": tenant, "project": "p", "key_id": "k", "outcome": "ok",
            "endpoint": "digits", "revision": 1, "version": 1, "digest": "sha256:aa", "quantities": {"rows": rows},
        } | changes  # fmt: skip
        self.usage.fold(f"segment-{number}", 0, 1, [UsageRecord(**record)])  # type: ignore[arg-type]

    def issued(self, start: int, end: int, tenant: str = "acme") -> Invoice:
        return self.billing.issue(self.billing.draft(tenant, start, end).id)


@pytest.fixture
def shop(database: Database) -> Shop:
    bills = BillStore(database)
    usage = UsageStore(database, on_fold=bills.note_late)
    return Shop(database, bills, usage, Billing(bills, usage, lambda versions: {}, never))  # type: ignore[arg-type]


@pytest.fixture
def bills(shop: Shop) -> BillStore:
    return shop.bills


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


def test_an_invoice_is_stored_as_it_was_made(shop: Shop) -> None:
    shop.bills.publish('tax_percent = "19"\n' + CHEAP, NOW - DAY_US)
    start = NOW - DAY_US
    shop.use(1001, start)
    shop.use(500, start + HOUR_US)
    shop.use(7, start, endpoint="words", quantities={"requests": 7})
    shop.use(9999, start, outcome="error")  # an error costs nothing
    made = shop.billing.draft("acme", start, NOW)
    document = made.document
    assert shop.bills.get(made.id) == made
    assert (made.state, made.number) == ("draft", "")
    assert [(line.quantity, line.amount_micros) for line in document.lines] == [(1501, 750_500)]
    assert (document.net, document.tax, document.total) == (
        Money(750_500, "EUR"), Money(142_595, "EUR"), Money(893_095, "EUR"),
    )  # fmt: skip
    assert document.due == Money(890_000, "EUR")
    assert [(part.endpoint, part.quantity) for part in document.unrated] == [("words", 7)]
    assert document.unpriced == ("words",)
    with pytest.raises(InvoiceNotFound):
        shop.bills.get("inv_none")


def test_invoices_are_listed_by_tenant_in_order(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOON)
    made = [shop.billing.draft(tenant, NOON, NOON + DAY_US) for tenant in ("acme", "other", "acme")]
    assert {invoice.id for invoice in shop.bills.list()} == {invoice.id for invoice in made}
    assert {invoice.id for invoice in shop.bills.list("acme")} == {made[0].id, made[2].id}
    first, *rest = shop.bills.list(limit=2)
    assert shop.bills.list(after=first.id)[:1] == rest


def test_verify_recomputes_to_the_byte_and_counts_events(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOW - DAY_US)
    shop.use(1001, NOW - DAY_US)
    shop.use(500, NOW - HOUR_US)
    invoice = shop.issued(NOW - DAY_US, NOW)
    shop.bills.publish(DEAR, NOW - DAY_US)  # a later correction does not change what was invoiced
    check = shop.billing.verify(invoice.id)
    assert check.matches
    assert check.events_match
    assert check.sha256 == check.recomputed_sha256 == invoice.document.sha256


@pytest.mark.parametrize(
    ("tampering", "matches", "events_match"),
    [
        ("UPDATE invoices SET document = replace(document, '750500', '750499')", False, True),
        ("UPDATE invoices SET document = document || ' '", False, True),
        ("UPDATE invoices SET sha256 = 'ff'", False, True),
        ("UPDATE price_books SET text = replace(text, '0.50', '0.49')", False, True),
        ("UPDATE price_books SET text = text || '# '", False, True),
        ("UPDATE usage_windows SET quantity = quantity + 1", False, False),
        ("UPDATE usage_records SET quantities = replace(quantities, '1', '2')", True, False),
        ("DELETE FROM usage_records", True, False),
    ],
)
def test_verify_finds_what_was_changed_behind_its_back(
    shop: Shop, tampering: str, matches: bool, events_match: bool
) -> None:
    shop.bills.publish(CHEAP, NOW - DAY_US)
    shop.use(1501, NOW - DAY_US)
    invoice = shop.issued(NOW - DAY_US, NOW)
    with shop.database.write() as connection:
        connection.execute(text(tampering))
    check = shop.billing.verify(invoice.id)
    assert (check.matches, check.events_match) == (matches, events_match)


def test_a_draft_becomes_final_when_its_period_and_the_grace_are_over(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOON - DAY_US * 300)
    patient = Billing(shop.bills, shop.usage, lambda versions: {}, never, grace_us=48 * HOUR_US)  # type: ignore[arg-type]
    past = shop.billing.draft("acme", NOW - DAY_US, NOW)
    running = shop.billing.draft("other", NOW, NOW + HOUR_US * 2)
    with pytest.raises(InvalidPeriod, match="usage still comes"):
        patient.issue(past.id)
    with pytest.raises(InvalidPeriod, match="usage still comes"):
        shop.billing.issue(running.id)
    issued = shop.billing.issue(past.id)
    assert (issued.state, issued.number) == ("issued", "INV-000001")
    assert shop.billing.issue(past.id) == shop.bills.get(past.id) == issued
    assert issued.document == past.document
    with pytest.raises(InvoiceNotFound):
        shop.billing.issue("inv_none")


def test_a_draft_that_usage_has_overtaken_is_not_issued(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOW - DAY_US)
    draft = shop.billing.draft("acme", NOW - DAY_US, NOW)
    shop.use(10, NOW - HOUR_US)
    with pytest.raises(InvoiceConflict, match="out of date"):
        shop.billing.issue(draft.id)
    assert shop.issued(NOW - DAY_US, NOW).number == "INV-000001"  # what failed took no number


def test_usage_is_invoiced_once(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOW - 2 * DAY_US)
    first, twin = (shop.billing.draft("acme", NOW - DAY_US, NOW) for _ in range(2))
    shop.billing.issue(first.id)
    with pytest.raises(InvoiceConflict, match="INV-000001"):
        shop.billing.issue(twin.id)
    with pytest.raises(InvoiceConflict, match="INV-000001"):
        shop.billing.draft("acme", NOW - 2 * DAY_US, NOW - DAY_US + HOUR_US)
    assert shop.issued(NOW - 2 * DAY_US, NOW - DAY_US).number == "INV-000002"
    assert shop.issued(NOW - DAY_US, NOW, "other").number == "INV-000003"
    shop.billing.void(first.id)
    assert shop.billing.issue(twin.id).number == "INV-000004"


def test_the_state_table_is_what_happens(shop: Shop) -> None:
    shop.bills.publish(CHEAP, NOW - 9 * DAY_US)
    for day, (state, target) in enumerate(itertools.product(INVOICE_NEXT, INVOICE_NEXT)):
        start = NOW - 9 * DAY_US + day * HOUR_US
        invoice = shop.billing.draft("acme", start, start + HOUR_US)
        for step in {"draft": (), "issued": ("issued",), "paid": ("issued", "paid"), "void": ("void",)}[state]:
            shop.bills.move(invoice.id, step)  # type: ignore[arg-type]
        if state == target or may_become(state, target):
            assert shop.bills.move(invoice.id, target).state == target
        else:
            with pytest.raises(InvoiceConflict, match=f"is {state}"):
                shop.bills.move(invoice.id, target)


def test_credit_notes_give_back_at_most_what_was_billed(shop: Shop) -> None:
    shop.bills.publish('tax_percent = "20"\ndiscount_percent = "50"\n' + CHEAP, NOW - DAY_US)
    shop.use(2000, NOW - HOUR_US)
    draft = shop.billing.draft("acme", NOW - DAY_US, NOW)
    with pytest.raises(InvoiceConflict, match="issued or paid"):
        shop.billing.credit(draft.id, None, "x")
    invoice = shop.billing.pay(shop.billing.issue(draft.id).id)  # 1.00 less 0.50, and tax
    assert invoice.document.total.micros == 600_000
    for lines, message in [([(1, 0)], "left"), ([(9, 1)], "no line 9"), ([(2, 1)], "left"), ([(1, 600_000)], "all of")]:
        with pytest.raises(InvalidInvoice, match=message):
            shop.billing.credit(invoice.id, lines, "x")
    part = shop.billing.credit(invoice.id, [(1, 100_000)], "slow on Monday")
    assert (part.number, part.state, part.document.total.micros) == ("CN-000001", "issued", -120_000)
    rest = shop.billing.credit(invoice.id, None, "the rest")
    assert invoice.document.total.micros + part.document.total.micros + rest.document.total.micros == 0
    assert [note.id for note in shop.billing.credit_notes(invoice.id)] == [part.id, rest.id]
    with pytest.raises(InvoiceConflict, match="nothing is left"):
        shop.billing.credit(invoice.id, None, "x")
    assert shop.billing.verify(part.id).matches
    assert shop.billing.pay(part.id).state == "paid"  # refunded
    with pytest.raises(InvoiceConflict, match="credit notes"):
        shop.billing.void(invoice.id)


def test_late_usage_becomes_an_adjustment_of_the_next_invoice(shop: Shop) -> None:
    tiers = 'currency = "EUR"\n[[price]]\nmeter = "rows"\ntiers = [{up_to = 100, amount = "1"}, {amount = "0.50"}]\n'
    shop.bills.publish(tiers, NOW - 3 * DAY_US)
    shop.use(90, NOW - DAY_US)
    first = shop.issued(NOW - 2 * DAY_US, NOW - HOUR_US)
    shop.use(20, NOW - DAY_US + HOUR_US)  # came too late: 10 units at 1 and 10 at 0.50
    shop.use(5, NOW - HOUR_US)
    assert shop.billing.verify(first.id).matches
    # Late usage is booked in the hour in which it came: this one, or the next if the clock has just struck.
    draft = shop.billing.draft("acme", NOW - HOUR_US, NOW + 2 * HOUR_US)
    assert [(line.kind, line.quantity, line.amount_micros) for line in draft.document.lines] == [
        ("usage", 5, 5_000_000),
        ("adjustment", 20, 15_000_000),
    ]
    assert (draft.document.lines[1].start, draft.document.lines[1].end) == (NOW - 2 * DAY_US, NOW - HOUR_US)
    assert [event.quantity for event in shop.billing.trace(draft.id, 2).items] == [20]
    assert [event.quantity for event in shop.billing.trace(first.id, 1).items] == [90]
    assert shop.billing.verify(draft.id).matches
    shop.bills.move(draft.id, "issued", last_seq=shop.usage.count())
    shop.use(1, NOW - DAY_US)  # later still: booked in this hour, which is invoiced already
    assert shop.billing.verify(first.id).matches


def test_every_line_traces_to_its_events(shop: Shop) -> None:
    shop.bills.publish('discount_percent = "10"\nminimum = "9"\n' + CHEAP, NOW - DAY_US)
    for number in range(1, 8):
        shop.use(number, NOW - number * HOUR_US)
        shop.use(100, NOW - number * HOUR_US, tenant="other")
        shop.use(100, NOW - number * HOUR_US, outcome="error")
    invoice = shop.issued(NOW - 5 * HOUR_US, NOW)
    page = shop.billing.trace(invoice.id, 1, limit=2)
    events = [*page.items]
    while page.next is not None:
        page = shop.billing.trace(invoice.id, 1, after=int(page.next), limit=2)
        events += page.items
    assert sorted(event.quantity for event in events) == [1, 2, 3, 4, 5]
    assert sum(event.quantity for event in events) == invoice.document.lines[0].quantity
    with pytest.raises(InvalidInvoice, match="lines 1"):
        shop.billing.trace(invoice.id, 2)
    assert shop.billing.trace(invoice.id, 3).items == []  # the minimum comes from no event
    with pytest.raises(InvalidInvoice, match="no line 4"):
        shop.billing.trace(invoice.id, 4)


def test_what_cannot_be_invoiced_is_refused_and_leaves_nothing(shop: Shop) -> None:
    with pytest.raises(PriceBookNotFound):
        shop.billing.draft("acme", NOON, NOON + DAY_US)
    shop.bills.publish(CHEAP, NOON)
    shop.bills.publish(CHEAP.replace("EUR", "USD"), NOON + HOUR_US)
    for start, end, message in [
        (NOON, NOON, "empty"),
        (NOON + 1, NOON + HOUR_US, "full hour"),
        (NOON, NOON + DAY_US, "currency changes to USD"),
    ]:
        with pytest.raises(InvalidPeriod, match=message):
            shop.billing.draft("acme", start, end)
    book = PublishedBook(1, 0, 0, parse_price_book(CHEAP))
    with pytest.raises(InvalidPeriod, match="not in the period"):
        make_invoice("i", "acme", NOON, NOON + HOUR_US, [UsageRow("e", 1, "d", "rows", NOON - HOUR_US, 1)], [book], 0)
    assert shop.bills.list() == []


def test_paper_says_what_the_document_says_and_nothing_runs_in_it(shop: Shop) -> None:
    shop.bills.publish('tax_percent = "19"\n' + CHEAP, NOW - DAY_US)
    shop.use(1_234_567, NOW - HOUR_US)
    shop.bills.set_party(Party("", title="Model Works & Co", notes="Pay <soon>"))
    shop.bills.set_party(Party("acme", title="<script>alert(1)</script>", address="1 High St\nLondon"))
    invoice = shop.issued(NOW - DAY_US, NOW)
    page = html_page(invoice, shop.bills.party(""), shop.bills.party("acme"))
    assert "<script" not in page
    for words in ("INV-000001", "Model Works &amp; Co", "&lt;script&gt;", "Pay &lt;soon&gt;", "1,234,567", "617.2835",
                  "Tax 19 %", "734.57 EUR", invoice.document.sha256):  # fmt: skip
        assert words in page
    note = shop.billing.credit(invoice.id, None, "all wrong")
    assert "Corrects invoice" in html_page(note, Party(""), Party("acme"), invoice.number)
    rows = [line.split(",") for line in csv_text(invoice).splitlines()]
    assert {len(row) for row in rows} == {17}
    assert [row[-2] for row in rows[1:]] == ["617.2835", "617.2835", "117.283865", "734.567365", "734.57"]
    assert shop.bills.erase_party("acme")
    assert shop.bills.party("acme") == Party("acme")
    assert shop.billing.verify(invoice.id).matches  # names are no part of the document


_rows = st.lists(
    st.builds(
        UsageRow,
        st.sampled_from(["digits", "words"]),
        st.just(1),
        st.just("sha256:aa"),
        st.sampled_from(["rows", "requests"]),
        st.integers(0, 23).map(lambda hour: NOON + hour * HOUR_US),
        st.integers(0, 2**50),
    ),
    max_size=20,
)


@given(_rows, st.randoms(use_true_random=False), st.sampled_from(["0", "7", "19.25"]))
def test_the_total_is_the_sum_of_lines_and_a_rerun_the_same_bytes(
    usage: list[UsageRow], chance: random.Random, tax: str
) -> None:
    texts = (f'tax_percent = "{tax}"\n{book}' for book in (CHEAP, DEAR))
    books = [PublishedBook(n, NOON + n * 3 * HOUR_US, 0, parse_price_book(book)) for n, book in enumerate(texts)]
    invoice = make_invoice("inv_1", "acme", NOON, NOON + DAY_US, usage, books, NOON)
    shuffled = chance.sample(usage, len(usage))
    again = make_invoice("inv_1", "acme", NOON, NOON + DAY_US, shuffled, books[::-1], NOON)
    assert again.canonical == invoice.canonical
    assert invoice.net.micros == sum(line.amount_micros for line in invoice.lines)
    document = json.loads(invoice.canonical, parse_float=lambda text: pytest.fail(f"a float in an invoice: {text}"))
    assert document["total_micros"] == document["net_micros"] + document["tax_micros"] == invoice.total.micros
    assert Document.read(invoice.canonical.decode()) == invoice
    if invoice.net.micros:
        amounts = [(line.number, line.amount_micros) for line in invoice.lines if line.amount_micros]
        refund = make_credit_note("cn_1", invoice, amounts, "all", NOON)
        assert refund.total.micros == -invoice.total.micros


TOKENS = """currency = "EUR"
[[price]]
meter = "input_tokens"
amount = "0.10"
[[price]]
meter = "output_tokens"
amount = "1"
[[price]]
meter = "batch_output_tokens"
amount = "0.5"
"""
CACHED = '[[price]]\nmeter = "cached_tokens"\namount = "0.01"\n'


def _lines(invoice: Invoice) -> dict[str, tuple[int, int]]:
    return {line.scope.meter: (line.quantity, line.amount_micros) for line in invoice.document.lines}


def test_batches_and_cached_tokens_cost_as_others_do_unless_they_have_prices(shop: Shop) -> None:
    shop.bills.publish(TOKENS, NOW - 3 * DAY_US)
    shop.bills.publish(TOKENS + CACHED, NOW - DAY_US)
    used = {"input_tokens": 10, "cached_tokens": 20, "output_tokens": 3}
    batch = {"batch_input_tokens": 100, "batch_cached_tokens": 200, "batch_output_tokens": 30, "batch_requests": 1}
    for start in (NOW - 2 * DAY_US, NOW - DAY_US):
        shop.use(0, start, quantities=used)
        shop.use(0, start + HOUR_US, quantities=batch)
    before = shop.issued(NOW - 2 * DAY_US, NOW - DAY_US)
    after = shop.issued(NOW - DAY_US, NOW)
    assert _lines(before) == {
        "input_tokens": (330, 33_000_000),
        "output_tokens": (3, 3_000_000),
        "batch_output_tokens": (30, 15_000_000),
    }
    assert _lines(after) == {
        "input_tokens": (110, 11_000_000),
        "cached_tokens": (220, 2_200_000),
        "output_tokens": (3, 3_000_000),
        "batch_output_tokens": (30, 15_000_000),
    }
    for invoice in (before, after):
        assert shop.billing.verify(invoice.id).matches
        for line in invoice.document.lines:
            traced = shop.billing.trace(invoice.id, line.number).items
            assert sum(event.quantity for event in traced) == line.quantity
