from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import InvalidPriceBook
from mofang.base.domain.money import Money
from mofang.sell.bill.pricebook import parse_price_book

EXAMPLE = Path(__file__).parents[3] / "examples" / "prices.toml"
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


def test_the_endpoints_own_price_wins() -> None:
    book = parse_price_book(GOOD)
    other, own = book.find("other", "requests"), book.find("digits", "requests")
    assert other is not None
    assert own is not None
    assert (other.amount, other.per) == (Money(500_000, "EUR"), 1000)
    assert (own.amount, own.per) == (Money(1, "EUR"), 1)
    assert book.find("digits", "rows") is None


def test_the_digest_is_that_of_the_text() -> None:
    assert parse_price_book(GOOD).digest == parse_price_book(GOOD).digest
    assert parse_price_book(GOOD).digest != parse_price_book(GOOD + "# a note\n").digest


def test_the_example_can_be_used() -> None:
    book = parse_price_book(EXAMPLE.read_text())
    assert book.currency == "EUR"
    assert book.find("digits", "rows") != book.find("words", "rows")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (('currency = "EUR"', 'currency = "euro"'), 1, "'euro'"),
        (('currency = "EUR"', "currency = 5"), 1, "5"),
        (('currency = "EUR"', 'curency = "EUR"'), 1, "did you mean 'currency'"),
        (('meter = "requests"\nper', 'meter = "request"\nper'), 5, "did you mean 'requests'"),
        (('meter = "requests"\nper', 'meter = ["rows"]\nper'), 5, "'rows'"),
        (("per = 1000", "per = 0"), 6, "per is 0"),
        (("per = 1000", "per = true"), 6, "per is True"),
        (("per = 1000", "per = 1.5"), 6, "per is 1.5"),
        (('"0.50"', "0.50"), 7, "amount is 0.5"),
        (('"0.50"', '"0.0000005"'), 7, "six decimals"),
        (('"0.50"', '"-1"'), 7, "'-1'"),
        (('"0.50"', '"1e3"'), 7, "'1e3'"),
        (('"0.50"', '"NaN"'), 7, "'NaN'"),
        (('"0.50"', '"٣"'), 7, "'٣'"),
        (('endpoint = "digits"', 'endpoint = "Digits!"'), 10, "'Digits!'"),
        (('endpoint = "digits"', 'endpoint = "*"'), 9, "second price"),
        (('amount = "0.000001"', 'amount = "0.000001"\nunit = 1'), 13, "'unit'"),
        (('amount = "0.000001"', ""), 9, "amount is None"),
        (('meter = "requests"\namount', "amount"), 9, "meter is None"),
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
        ('currency = "EUR"\nprice = [{meter = "rows", amount = 1}]', "amount is 1"),
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


@given(st.dictionaries(st.sampled_from(["endpoint", "meter", "per", "amount", "x"]), _values))
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
    assert f"{price.amount.micros / 10**6:.6f}" == f"{float(written['amount']):.6f}"
    assert price.per == written.get("per", 1)
