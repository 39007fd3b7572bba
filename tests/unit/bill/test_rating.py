from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.money import Money
from mofang.sell.bill.pricebook import Price, PriceBook, PublishedBook
from mofang.sell.bill.rating import rate, rate_period
from mofang.sell.meter.windows import HOUR_US, UsageRow

METERS = ("requests", "rows", "compute_us")
_rows = st.lists(
    st.builds(
        UsageRow,
        endpoint=st.sampled_from(["digits", "words"]),
        version=st.integers(1, 2),
        digest=st.sampled_from(["sha256:aa", "sha256:bb"]),
        meter=st.sampled_from(METERS),
        hour=st.integers(0, 9).map(lambda hour: hour * HOUR_US),
        quantity=st.integers(0, 2**60),
    ),
    max_size=40,
)
_prices = st.dictionaries(
    st.tuples(st.sampled_from(["*", "digits"]), st.sampled_from(METERS)),
    st.tuples(st.integers(1, 10**15), st.integers(0, 10**18)),
)


@st.composite
def _books(draw: st.DrawFn) -> PriceBook:
    prices = draw(_prices)
    return PriceBook(
        "EUR",
        tuple(Price(*key, per, Money(micros, "EUR")) for key, (per, micros) in prices.items()),
        draw(st.sampled_from(["sha256:1", "sha256:2"])),
    )


def price_book(*prices: tuple[str, str, int, int]) -> PriceBook:
    return PriceBook(
        "EUR", tuple(Price(name, meter, per, Money(micros, "EUR")) for name, meter, per, micros in prices), "sha256:1"
    )


def exact(quantity: int, micros: int, per: int) -> int:
    """The amount by another road: decimals with more digits than any of these quotients needs to be told from a tie."""
    with localcontext() as context:
        context.prec = 100
        return int((Decimal(quantity * micros) / Decimal(per)).to_integral_value(ROUND_HALF_EVEN))


@given(_rows, _books())
def test_a_line_is_the_exact_quotient_rounded_once(rows: list[UsageRow], book: PriceBook) -> None:
    for line in rate(rows, book).lines:
        price = book.find(line.endpoint, line.meter)
        assert price is not None
        assert (line.per, line.unit_micros) == (price.per, price.amount.micros)
        assert line.amount_micros == exact(line.quantity, line.unit_micros, line.per)


@given(_rows, _books())
def test_all_usage_is_either_in_a_line_or_shown_as_unrated(rows: list[UsageRow], book: PriceBook) -> None:
    rating = rate(rows, book)
    for meter in METERS:
        used = sum(row.quantity for row in rows if row.meter == meter)
        assert used == sum(part.quantity for part in (*rating.lines, *rating.unrated) if part.meter == meter)
    assert {row.endpoint for row in rows} == {line.endpoint for line in rating.lines} | {
        part.endpoint for part in rating.unrated
    }
    assert all(book.find(part.endpoint, part.meter) is None for part in rating.unrated)
    keys = [(line.endpoint, line.version, line.digest, line.meter) for line in rating.lines]
    assert len(set(keys)) == len(keys)


@given(_rows, _books(), st.randoms(use_true_random=False))
def test_neither_order_nor_cuts_of_the_usage_matter(
    rows: list[UsageRow], book: PriceBook, chance: random.Random
) -> None:
    cut = []
    for row in rows:
        part = chance.randint(0, row.quantity)
        for quantity in (part, row.quantity - part):
            cut.append(UsageRow(row.endpoint, row.version, row.digest, row.meter, row.hour, quantity))
    chance.shuffle(cut)
    assert rate(cut, book) == rate(rows, book)


@given(_rows, _books(), _books(), st.integers(1, 9))
def test_every_hour_is_priced_by_the_book_in_force_then(
    rows: list[UsageRow], first: PriceBook, second: PriceBook, change: int
) -> None:
    change *= HOUR_US
    books = [PublishedBook(1, 0, 0, first), PublishedBook(2, change, 0, second)]
    rating = rate_period(rows, books)
    before = rate_period([row for row in rows if row.hour < change], books[:1])
    after = rate_period([row for row in rows if row.hour >= change], books[1:])
    assert sorted(rating.lines) == sorted(before.lines + after.lines)


def test_halves_go_to_the_even_neighbour() -> None:
    book = price_book(("*", "rows", 2, 1))
    for quantity, micros in [(1, 0), (2, 1), (3, 2), (5, 2), (7, 4)]:
        (line,) = rate([UsageRow("digits", 1, "sha256:aa", "rows", 0, quantity)], book).lines
        assert line.amount_micros == micros


def test_a_million_events_do_not_drift() -> None:
    # A third of a micro-unit each: rounded by the event it would be nothing, by the line it is exact.
    row = UsageRow("digits", 1, "sha256:aa", "requests", 0, 1)
    (line,) = rate([row] * 1_000_000, price_book(("*", "requests", 3, 1))).lines
    assert line.amount_micros == 333_333


def test_endpoints_without_any_price_are_named() -> None:
    rows = [
        UsageRow("digits", 1, "sha256:aa", "rows", 0, 5),
        UsageRow("digits", 1, "sha256:aa", "requests", 0, 1),
        UsageRow("words", 1, "sha256:bb", "requests", 0, 1),
    ]
    rating = rate(rows, price_book(("digits", "rows", 1, 10)))
    assert [line.amount_micros for line in rating.lines] == [50]
    assert [(part.endpoint, part.meter, part.quantity) for part in rating.unrated] == [
        ("digits", "requests", 1),
        ("words", "requests", 1),
    ]
    assert rating.unpriced == ("words",)


def test_usage_before_the_first_book_is_unrated() -> None:
    row = UsageRow("digits", 1, "sha256:aa", "rows", 0, 5)
    rating = rate_period([row], [PublishedBook(1, HOUR_US, 0, price_book(("*", "rows", 1, 10)))])
    assert (rating.lines, rating.unpriced) == ((), ("digits",))
