"""Rating by another road: a naive model that prices unit by unit, and exact quotients by long decimals."""

from __future__ import annotations

import random
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.sell.bill.charge import charge, dearest
from mofang.sell.bill.pricebook import ANY, Price, PriceBook, PriceScope, PublishedBook, Terms, Tier
from mofang.sell.bill.quote import estimate, quote, quote_meters
from mofang.sell.bill.rating import UNKNOWN, Origin, Served, rate
from mofang.sell.bill.tariff import ceiling
from mofang.sell.meter.windows import HOUR_US, UsageRow

METERS = ("requests", "rows", "compute_us")
END = 10 * HOUR_US
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


def scope(meter: str = "rows", endpoint: str = ANY, tenant: str = ANY) -> PriceScope:
    return PriceScope(tenant, endpoint, ANY, ANY, meter)


@st.composite
def _price(draw: st.DrawFn, most: int = 10**15, where: PriceScope | None = None) -> Price:
    per = draw(st.integers(1, min(most, 10**6)))
    bounds = sorted(draw(st.sets(st.integers(1, most), max_size=3)))
    tiers = tuple(Tier(bound, draw(st.integers(0, 10**9))) for bound in bounds)
    return Price(
        where or scope(),
        "EUR",
        per,
        (*tiers, Tier(None, draw(st.integers(0, 10**9)))),
        draw(st.sampled_from(["graduated", "volume"])),
        draw(st.sampled_from([0, 0, 1, 7, most])),
        draw(st.booleans()),
    )


@st.composite
def _books(draw: st.DrawFn) -> PriceBook:
    scopes = draw(st.sets(st.tuples(st.sampled_from(METERS), st.sampled_from([ANY, "digits"]))))
    prices = tuple(draw(_price(where=scope(*it))) for it in sorted(scopes))
    terms = Terms(ANY, "EUR", draw(st.sampled_from([0, 1, 333_333, 10**6])), draw(st.sampled_from([0, 10**12])))
    return PriceBook((terms,), prices, draw(st.sampled_from(["sha256:1", "sha256:2"])))


def book(*prices: Price, discount_ppm: int = 0, minimum: int = 0) -> PublishedBook:
    return PublishedBook(1, 0, 0, PriceBook((Terms(ANY, "EUR", discount_ppm, minimum),), prices, "sha256:1"))


def unit_by_unit(price: Price, quantity: int) -> Fraction:
    """What a whole period of ``quantity`` units costs, by counting."""
    units = max(0, quantity - price.free)
    while price.whole and units % price.per:
        units += 1

    def rate_at(place: int) -> int:
        return next(tier.micros for tier in price.tiers if tier.up_to is None or place <= tier.up_to)

    if price.mode == "volume":
        return Fraction(units * rate_at(units), price.per)
    return sum((Fraction(rate_at(place), price.per) for place in range(1, units + 1)), Fraction(0))


@given(_price(most=30), st.integers(0, 60))
def test_tiers_allowance_and_packages_are_as_by_counting(price: Price, quantity: int) -> None:
    price = Price(price.scope, "EUR", min(price.per, 12), price.tiers, price.mode, price.free, price.whole)
    steps = charge(price, quantity, before=0, total=quantity)
    assert sum((step.exact for step in steps), Fraction(0)) == unit_by_unit(price, quantity)
    if not price.whole:
        assert sum(step.quantity for step in steps) == quantity


@given(_price(), st.lists(st.integers(0, 10**15), min_size=1, max_size=6))
def test_a_period_cut_in_parts_costs_the_same(price: Price, parts: list[int]) -> None:
    total, before, cost = sum(parts), 0, Fraction(0)
    for part in parts:
        cost += sum((step.exact for step in charge(price, part, before=before, total=total)), Fraction(0))
        before += part
    assert cost == sum((step.exact for step in charge(price, total, before=0, total=total)), Fraction(0))


def exact(numerator: int, denominator: int) -> int:
    """The quotient by another road: decimals with more digits than any of these needs to be told from a tie."""
    with localcontext() as context:
        context.prec = 120
        return int((Decimal(numerator) / Decimal(denominator)).to_integral_value(ROUND_HALF_EVEN))


@given(_rows, st.integers(1, 10**15), st.integers(0, 10**18))
def test_a_line_is_the_exact_quotient_rounded_once(rows: list[UsageRow], per: int, micros: int) -> None:
    rating = rate(rows, [book(Price(scope(), "EUR", per, (Tier(None, micros),)))], "acme", 0, END)
    quantity = sum(row.quantity for row in rows if row.meter == "rows")
    assert rating.total_micros == exact(quantity * micros, per)


@given(_rows, _books())
def test_all_usage_is_either_in_a_line_or_shown_as_unrated(rows: list[UsageRow], prices: PriceBook) -> None:
    rating = rate(rows, [PublishedBook(1, 0, 0, prices)], "acme", 0, END)
    for meter in METERS:
        used = sum(row.quantity for row in rows if row.meter == meter)
        billed = sum(part.quantity for line in rating.lines if line.scope.meter == meter for part in line.parts)
        assert used == billed + sum(part.quantity for part in rating.unrated if part.meter == meter)
    for line in rating.lines:
        assert line.quantity == sum(part.quantity for part in line.parts)
    assert all(prices.find(scope(part.meter, part.endpoint, "acme")) is None for part in rating.unrated)


@given(_rows, _books(), _books(), st.randoms(use_true_random=False))
def test_order_and_cutting_change_nothing(
    rows: list[UsageRow], first: PriceBook, second: PriceBook, chance: random.Random
) -> None:
    books = [PublishedBook(1, 0, 0, first), PublishedBook(2, 5 * HOUR_US, 0, second)]
    cut = [
        UsageRow(row.endpoint, row.version, row.digest, row.meter, row.hour, part)
        for row in rows
        for part in (row.quantity // 3, row.quantity - row.quantity // 3)
    ]
    chance.shuffle(cut)
    assert rate(cut, books[::-1], "acme", 0, END) == rate(rows, books, "acme", 0, END)


@given(_rows, _books())
def test_publishing_the_same_prices_again_changes_no_total(rows: list[UsageRow], prices: PriceBook) -> None:
    once = rate(rows, [PublishedBook(1, 0, 0, prices)], "acme", 0, END)
    twice = rate(rows, [PublishedBook(1, 0, 0, prices), PublishedBook(2, 3 * HOUR_US, 0, prices)], "acme", 0, END)
    assert abs(once.total_micros - twice.total_micros) <= len(twice.lines)  # each line rounds for itself


def test_a_price_change_in_mid_period_rates_each_hour_by_its_book_and_goes_on_counting() -> None:
    cheap = Price(scope(), "EUR", 1, (Tier(None, 10),), free=5)
    dear = Price(scope(), "EUR", 1, (Tier(None, 20),), free=5)
    books = [PublishedBook(1, 0, 0, book(cheap).book), PublishedBook(2, HOUR_US, 0, book(dear).book)]
    rows = [UsageRow("e", 1, "d", "rows", 0, 8), UsageRow("e", 1, "d", "rows", HOUR_US, 4)]
    lines = rate(rows, books, "acme", 0, 2 * HOUR_US).lines
    assert [(line.price_book, line.amount_micros) for line in lines] == [(1, 30), (2, 80)]  # 5 free, once
    assert [(line.start, line.end) for line in lines] == [(0, HOUR_US), (HOUR_US, 2 * HOUR_US)]


def test_discount_and_minimum_are_lines_of_their_own() -> None:
    price = Price(scope(), "EUR", 1, (Tier(None, 1_000),))
    lines = rate(
        [UsageRow("e", 1, "d", "rows", 0, 10)], [book(price, discount_ppm=100_000, minimum=20_000)], "a", 0, HOUR_US
    ).lines
    assert [(line.kind, line.amount_micros, line.of) for line in lines] == [
        ("usage", 10_000, ()),
        ("discount", -1_000, (1,)),
        ("minimum", 11_000, ()),
    ]


def test_prices_by_model_and_variant_need_to_know_the_origin() -> None:
    own = Price(PriceScope(ANY, ANY, "vision", "int8", "rows"), "EUR", 1, (Tier(None, 7),))
    rows = [UsageRow("e", 3, "d", "rows", 0, 2)]
    assert rate(rows, [book(own)], "a", 0, HOUR_US).lines == ()
    (line,) = rate(rows, [book(own)], "a", 0, HOUR_US, {Served("e", "d", 3): Origin("vision", "int8")}).lines
    assert (line.amount_micros, line.parts[0].model, line.parts[0].variant) == (14, "vision", "int8")


def test_a_million_events_do_not_drift() -> None:
    third = Price(scope(), "EUR", 3, (Tier(None, 1),))  # a third of a micro-unit each
    rows = [UsageRow("e", 1, "d", "rows", number % 10 * HOUR_US, 1) for number in range(1_000_000)]
    assert rate(rows, [book(third)], "a", 0, END).total_micros == 333_333


@given(_price(), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_quote_is_what_the_invoice_grows_by_and_never_more_than_its_bound(price: Price, used: int, more: int) -> None:
    published = book(price)
    where = {"tenant": "a", "endpoint": "e", "at": 5}
    grown = unit_price(price, used + more) - unit_price(price, used)
    told = quote([published], {"rows": more}, **where, used={"rows": used})  # type: ignore[arg-type]
    assert 0 <= told.micros - grown < 1
    bound = quote([published], {"rows": more}, **where)  # type: ignore[arg-type]
    if price.mode == "graduated":
        assert bound.micros >= told.micros - (price.per * max(t.micros for t in price.tiers) if price.whole else 0)
    assert bound.micros >= dearest(price, more)


def unit_price(price: Price, quantity: int) -> Fraction:
    return sum((step.exact for step in charge(price, quantity, before=0, total=quantity)), Fraction(0))


def test_a_quote_names_every_meter_and_a_tariff_is_its_bound() -> None:
    price = Price(scope(), "EUR", 1000, (Tier(10, 500), Tier(None, 400)), free=10)
    found = quote_meters(
        [book(price, discount_ppm=500_000)], {"rows": 30, "images": 2}, tenant="a", endpoint="e", at=1, used={"rows": 5}
    )
    assert [(m.meter, m.amount_micros, m.price is None) for m in found.meters] == [
        ("images", 0, True),
        ("rows", 11, False),  # 5 free, 10 at .5, 15 at .4
    ]
    assert found.total.micros == 6
    most = ceiling(book(price, discount_ppm=500_000).book, "a", "e", UNKNOWN)
    assert (most.currency, {meter: Fraction(*it) for meter, it in most.prices.items()}) == (
        "EUR",
        {"rows": Fraction(1, 4)},
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"rows": 10}, {"compute_us": 34, "input_bytes": 40}),
        ({"requests": 2}, {"compute_us": 20, "input_bytes": 24}),
        ({"rows": 10, "compute_us": 1}, {"input_bytes": 40}),
        ({"images": 1}, {}),
    ],
)
def test_what_is_not_known_before_is_estimated_from_what_was_measured(
    wanted: dict[str, int], expected: dict[str, int]
) -> None:
    assert estimate(wanted, {"rows": 3, "requests": 1, "compute_us": 10, "input_bytes": 12}) == expected
