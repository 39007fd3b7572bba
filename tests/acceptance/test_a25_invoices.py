"""A25: an invoice is the sum of its events, whatever the prices, whenever they change; all of it in integers.

By hypothesis, on a real ledger: events are folded, invoiced and credited; an oracle prices every event by itself, by
the book in force at its time, and adds up exact fractions.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofang.base.audit.heads import AuditKey
from mofang.base.audit.store import AuditStore
from mofang.base.domain.errors import EndpointNotFound
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database, metadata
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.invoice import Document
from mofang.sell.bill.rating import Origin
from mofang.sell.bill.store import BillStore, Invoice
from mofang.sell.meter.folding import Fold
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import HOUR_US, hour_of
from mofang.sell.meter.witness import Witness

HOURS = 12
END = hour_of(now_us())
START = END - HOURS * HOUR_US
METERS = ("requests", "rows", "compute_us")


@dataclass
class Tariff:
    """A graduated price, as the oracle understands it: micro-units per ``per``, and the bounds of tiers."""

    per: int
    free: int
    bounds: list[int]
    micros: list[int]

    def upto(self, units: int) -> Fraction:
        """What the first ``units`` of a period cost."""
        paid, below, cost = max(0, units - self.free), 0, Fraction(0)
        for bound, micros in zip([*self.bounds, None], self.micros, strict=True):
            inside = max(0, (paid if bound is None else min(paid, bound)) - below)
            cost, below = cost + Fraction(inside * micros, self.per), bound or 0
        return cost

    def toml(self, meter: str) -> str:
        amounts = [f"{micros // 10**6}.{micros % 10**6:06d}" for micros in self.micros]
        tiers = [f'{{up_to = {bound}, amount = "{it}"}}' for bound, it in zip(self.bounds, amounts, strict=False)]
        tiers.append(f'{{amount = "{amounts[-1]}"}}')
        return f'[[price]]\nmeter = "{meter}"\nper = {self.per}\nfree = {self.free}\ntiers = [{", ".join(tiers)}]\n'


@st.composite
def _tariff(draw: st.DrawFn) -> Tariff:
    bounds = sorted(draw(st.sets(st.integers(1, 500), max_size=2)))
    micros = draw(st.lists(st.integers(0, 10**7), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    return Tariff(draw(st.sampled_from([1, 3, 7, 1000])), draw(st.sampled_from([0, 10, 200])), bounds, micros)


_book = st.dictionaries(st.sampled_from(METERS), _tariff(), min_size=1)
_event = st.tuples(
    st.integers(0, HOURS * HOUR_US - 1),
    st.sampled_from(["acme", "other"]),
    st.sampled_from(["ok", "ok", "ok", "error"]),
    st.dictionaries(st.sampled_from(METERS), st.integers(0, 300), min_size=1),
)


class Shop:
    """A ledger, its audit log, its bills."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.audit = AuditStore(database, AuditKey.open(folder / "audit.key"))
        self.bills, self.witness = BillStore(database), Witness(self.audit)
        self.usage = UsageStore(database, on_fold=self._on_fold)
        self.billing = Billing(self.bills, self.usage, lambda them: dict.fromkeys(them, Origin("m", "original")), _none)  # type: ignore[arg-type]

    def _on_fold(self, fold: Fold) -> None:
        self.bills.note_late(fold)
        self.witness.note(fold)

    def fold(self, events: Sequence[tuple[int, str, str, dict[str, int]]], first: int = 0) -> None:
        if not events:
            return
        records = [
            UsageRecord(
                request_id=f"req_{first + number}", at=START + at, tenant=tenant, project="p", key_id="k", endpoint="e",
                revision=1, version=1, digest="sha256:aa", outcome=outcome, quantities=quantities,  # type: ignore[arg-type]
            )
            for number, (at, tenant, outcome, quantities) in enumerate(events)
        ]  # fmt: skip
        self.usage.fold(f"segment-{first}", 0, 1, records)


def _none(endpoint: str) -> None:
    raise EndpointNotFound(endpoint)


@contextmanager
def open_shop() -> Iterator[Shop]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/mofang.db")
        with database.write() as connection:
            metadata.create_all(connection)
        try:
            yield Shop(database, Path(folder))
        finally:
            database.close()


def oracle(
    events: Sequence[tuple[int, str, str, dict[str, int]]], books: Sequence[tuple[int, dict[str, Tariff]]]
) -> dict[tuple[int, str], Fraction]:
    """Price acme's events one by one, in the order of time; return the exact sums by book and meter."""
    sums: defaultdict[tuple[int, str], Fraction] = defaultdict(Fraction)
    counted: defaultdict[str, int] = defaultdict(int)
    for at, tenant, outcome, quantities in sorted(events, key=lambda event: event[0]):
        if (tenant, outcome) != ("acme", "ok"):
            continue
        version = max(number for number, (hour, _) in enumerate(books) if hour * HOUR_US <= at)
        for meter, units in quantities.items():
            tariff = books[version][1].get(meter)
            if tariff is not None:
                before, counted[meter] = counted[meter], counted[meter] + units
                sums[version + 1, meter] += tariff.upto(before + units) - tariff.upto(before)
    return sums


@settings(max_examples=25, deadline=None)
@given(
    st.lists(_event, max_size=25),
    _book,
    st.lists(st.tuples(st.integers(1, HOURS - 1), _book), max_size=2, unique_by=lambda it: it[0]),
    st.integers(0, 25),
)
def test_an_invoice_is_the_sum_of_its_events(
    events: list[tuple[int, str, str, dict[str, int]]],
    first: dict[str, Tariff],
    changes: list[tuple[int, dict[str, Tariff]]],
    late: int,
) -> None:
    books = [(0, first), *sorted(changes, key=lambda it: it[0])]
    with open_shop() as shop:
        for hour, book in books:
            text = 'currency = "EUR"\n' + "".join(tariff.toml(meter) for meter, tariff in book.items())
            shop.bills.publish(text, START + hour * HOUR_US)
        shop.fold(events[:late])
        shop.fold(events[late:], first=1000)
        invoice = shop.billing.issue(shop.billing.draft("acme", START, END).id)

        expected = oracle(events, books)
        found = {(line.price_book, line.scope.meter): line.amount_micros for line in invoice.document.lines}
        assert without_zeros(found) == without_zeros({key: round(exact) for key, exact in expected.items()})
        for line in invoice.document.lines:
            traced = shop.billing.trace(invoice.id, line.number, limit=1000).items
            assert sum(event.quantity for event in traced) == line.quantity
        check_whole(shop, invoice)

        if any(line.amount_micros for line in invoice.document.lines):
            note = shop.billing.credit(invoice.id, None, "all of it back")
            assert note.document.total.micros == -invoice.document.total.micros
            check_whole(shop, note)


def without_zeros(amounts: dict[tuple[int, str], int]) -> dict[tuple[int, str], int]:
    return {key: amount for key, amount in amounts.items() if amount}


def check_whole(shop: Shop, invoice: Invoice) -> None:
    """An invoice has integers alone, is the same when it is made again, and its events are those the log saw."""
    document = invoice.document
    json.loads(document.canonical, parse_float=lambda text: pytest.fail(f"a float: {text}"))
    assert document.net.micros == sum(line.amount_micros for line in document.lines)
    assert Document.read(document.canonical.decode()) == document
    check = shop.billing.verify(invoice.id)
    assert check.matches
    assert check.events_match
    assert shop.witness.verify(shop.usage).events == shop.usage.count()
    shop.audit.verify()


@settings(max_examples=15, deadline=None)
@given(st.lists(_event, min_size=1, max_size=15), st.lists(_event, min_size=1, max_size=15), _book)
def test_what_comes_late_is_paid_with_the_next_invoice_and_nothing_twice(
    events: list[tuple[int, str, str, dict[str, int]]],
    late: list[tuple[int, str, str, dict[str, int]]],
    book: dict[str, Tariff],
) -> None:
    with open_shop() as shop:
        text = 'currency = "EUR"\n' + "".join(tariff.toml(meter) for meter, tariff in book.items())
        shop.bills.publish(text, 0)
        shop.fold(events)
        first = shop.billing.issue(shop.billing.draft("acme", START, END).id)
        shop.fold(late, first=1000)
        second = shop.billing.draft("acme", END, END + 2 * HOUR_US)
        both = {key: round(exact) for key, exact in oracle([*events, *late], [(0, book)]).items()}
        assert first.document.net.micros + second.document.net.micros == sum(both.values())
        assert {line.kind for line in second.document.lines} <= {"adjustment"}
        check_whole(shop, first)
        check_whole(shop, second)
