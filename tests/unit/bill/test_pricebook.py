from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import InvalidPriceBook
from mofang.sell.bill.parse import parse_price_book
from mofang.sell.bill.pricebook import PriceBook, PriceScope, Tier

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = """\
currency = "EUR"

[[price]]
endpoint = "*"
meter = "requests"
per = 1000
amount = "0.50"

[[price]]
endpoint = "digits"
meter = "requests"
amount = "0.000001"
"""
LEVELS = """
currency = "EUR"
[[price]]
meter = "rows"
amount = "1"
[[price]]
meter = "rows"
variant = "int8"
amount = "2"
[[price]]
meter = "rows"
model = "vision"
amount = "3"
[[price]]
meter = "rows"
endpoint = "shop"
amount = "4"
[[price]]
meter = "rows"
endpoint = "shop"
variant = "int8"
amount = "5"
[[tenant]]
name = "acme"
[[tenant.price]]
meter = "rows"
amount = "6"
[[tenant]]
name = "usa"
currency = "USD"
[[tenant.price]]
meter = "rows"
endpoint = "shop"
amount = "7"
"""


def unit_price(book: PriceBook, tenant: str, endpoint: str, model: str, variant: str) -> int | None:
    price = book.find(PriceScope(tenant, endpoint, model, variant, "rows"))
    return price and price.tiers[0].micros // 10**6


@pytest.mark.parametrize(
    ("tenant", "endpoint", "model", "variant", "expected"),
    [
        ("other", "x", "y", "original", 1),
        ("other", "x", "y", "int8", 2),
        ("other", "x", "vision", "int8", 3),
        ("other", "shop", "vision", "original", 4),
        ("other", "shop", "vision", "int8", 5),
        ("acme", "shop", "vision", "int8", 6),
        ("usa", "shop", "y", "original", 7),
        ("usa", "x", "y", "original", None),  # nothing in its currency: never converted
    ],
)
def test_the_most_specific_price_wins(
    tenant: str, endpoint: str, model: str, variant: str, expected: int | None
) -> None:
    assert unit_price(parse_price_book(LEVELS), tenant, endpoint, model, variant) == expected


def test_the_digest_is_that_of_the_text() -> None:
    assert parse_price_book(GOOD).digest == parse_price_book(GOOD).digest
    assert parse_price_book(GOOD).digest != parse_price_book(GOOD + "# a note\n").digest


@pytest.mark.parametrize("name", ["prices.toml", "prices-tiered.toml"])
def test_the_examples_can_be_used(name: str) -> None:
    assert parse_price_book((EXAMPLES / name).read_text()).currency == "EUR"


def test_a_price_from_cost_and_margin_is_exact() -> None:
    text = 'currency = "EUR"\n[[price]]\nmeter = "compute_us"\ncore_hour = "0.05"\nmargin_percent = "{}"\n'
    (plain,) = parse_price_book(text.format("20")).prices
    assert (plain.per, plain.tiers) == (3_600_000_000, (Tier(None, 60_000),))
    (fine,) = parse_price_book(text.format("33.3333")).prices
    assert fine.tiers[0].micros * 3_600_000_000 * 10**6 == 50_000 * 1_333_333 * fine.per


def test_terms_of_a_tenant_are_those_of_all_but_for_what_it_says() -> None:
    book = parse_price_book('tax_percent = "19"\nminimum = "5"\n' + GOOD + '[[tenant]]\nname = "a"\nminimum = "0"\n')
    assert (book.terms_of("b").tax_ppm, book.terms_of("b").minimum_micros) == (190_000, 5_000_000)
    assert (book.terms_of("a").tax_ppm, book.terms_of("a").minimum_micros) == (190_000, 0)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (('currency = "EUR"', 'currency = "euro"'), 1, "'euro'"),
        (('currency = "EUR"', "currency = 5"), 1, "got 5"),
        (('currency = "EUR"', 'curency = "EUR"'), 1, "did you mean 'currency'"),
        (('currency = "EUR"', 'currency = "EUR"\ndiscount_percent = "101"'), 2, "more than everything"),
        (('currency = "EUR"', 'currency = "EUR"\ntax_percent = 19.5'), 2, 'such as "19"'),
        (('currency = "EUR"', 'currency = "EUR"\nprices = 1'), 2, "did you mean 'price'"),
        (('meter = "requests"\nper', 'meter = "request"\nper'), 5, "did you mean 'requests'"),
        (('meter = "requests"\nper', 'meter = ["rows"]\nper'), 5, "'rows'"),
        (("per = 1000", "per = 0"), 6, "got 0"),
        (("per = 1000", "per = true"), 6, "got True"),
        (("per = 1000", "per = 1.5"), 6, "got 1.5"),
        (("per = 1000", "per = 1000\npackage = 10"), 7, "not both"),
        (('"0.50"', "0.50"), 7, "got 0.5"),
        (('"0.50"', '"0.0000005"'), 7, "six decimals"),
        (('"0.50"', '"-1"'), 7, "'-1'"),
        (('"0.50"', '"1e3"'), 7, "'1e3'"),
        (('"0.50"', '"NaN"'), 7, "'NaN'"),
        (('"0.50"', '"٣"'), 7, "'٣'"),
        (('"0.50"', '"0.50"\ntiers = [{amount = "1"}]'), 8, "not both"),
        (('"0.50"', '"0.50"\nmode = "volume"'), 8, "'tiers'"),
        (('amount = "0.50"', 'tiers = [{amount = "1"}, {amount = "2"}]'), 7, "tier 1 needs an up_to"),
        (('amount = "0.50"', 'tiers = [{up_to = 5, amount = "1"}]'), 7, "last tier has no up_to"),
        (('amount = "0.50"', 'tiers = [{upto = 5, amount = "1"}]'), 7, "did you mean 'up_to'"),
        (('amount = "0.50"', "tiers = [{up_to = 5, amount = 1}]"), 7, "got 1"),
        (("per = 1000\namount", 'package = 10\ntiers = [{up_to = 5, amount = "1"}, {amount = "1"}]\n#'), 7, "packages"),
        (("per = 1000\namount", "core_hour"), 6, "'compute_us'"),
        (('endpoint = "digits"', 'endpoint = "Digits!"'), 10, "'Digits!'"),
        (('endpoint = "digits"', 'endpoint = "*"'), 9, "second price"),
        (('amount = "0.000001"', 'amount = "0.000001"\nunit = 1'), 13, "'unit'"),
        (('amount = "0.000001"', ""), 9, "'amount', 'tiers' or 'core_hour'"),
        (('meter = "requests"\namount', "amount"), 9, "needs 'meter'"),
        (('amount = "0.000001"', 'amount = "1"\n[[tenant]]\nname = "a"\ncurrency = "USD"'), 15, "no price is in USD"),
        (('amount = "0.000001"', 'amount = "1"\n[[tenant]]\nname = "a"\n[[tenant]]\nname = "a"'), 16, "second"),
        (('amount = "0.000001"', 'amount = "1"\n[[tenant]]\nname = "A"'), 14, "'A'"),
        (('amount = "0.000001"', 'amount = "1"\n[[tenant]]\nname = "a"\n[[tenant.price]]\nmeter = "x"'), 16, "unknown"),
    ],
)
def test_a_book_that_cannot_be_used_is_refused_by_line(change: tuple[str, str], line: int, message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(InvalidPriceBook, match=f"^line {line}: ") as raised:
        parse_price_book(GOOD.replace(*change, 1))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("currency = 5 5\n", "line 1"),
        ("", "currency"),
        ('currency = "EUR"', "no \\[\\[price\\]\\]"),
        ('currency = "EUR"\nprice = 5', "line 2"),
        ('currency = "EUR"\nprice = [{meter = "rows", amount = 1}]', "amount takes text"),
        ("a = " + "[" * 50_000, "price book"),
        ("#" * 2_000_000, "longer"),
    ],
)
def test_other_text_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(InvalidPriceBook, match=message):
        parse_price_book(text)


_values = st.one_of(
    st.text(max_size=10), st.integers(), st.booleans(), st.sampled_from(["rows", "*", "0.5", "digits", "EUR"])
)


@given(st.text(max_size=200))
def test_any_text_is_a_book_or_is_refused(text: str) -> None:
    with pytest.raises(InvalidPriceBook):
        parse_price_book(text)


@given(st.dictionaries(st.sampled_from(["endpoint", "model", "meter", "per", "amount", "free", "x"]), _values))
def test_any_price_is_exact_or_refused(fields: dict[str, object]) -> None:
    def toml(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return str(value) if isinstance(value, int) else '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'

    text = 'currency = "EUR"\n[[price]]\n' + "\n".join(f"{key} = {toml(value)}" for key, value in fields.items())
    try:
        (price,) = parse_price_book(text).prices
    except InvalidPriceBook:
        return
    written = tomllib.loads(text)["price"][0]
    assert f"{price.tiers[0].micros / 10**6:.6f}" == f"{float(written['amount']):.6f}"
    assert (price.per, price.free) == (written.get("per", 1), written.get("free", 0))
