"""The price book: TOML that an owner writes, checked as a whole, then immutable.

::

    currency = "EUR"

    [[price]]
    endpoint = "*"          # or an endpoint's name, which wins over "*"
    meter = "requests"
    per = 1000
    amount = "0.50"

The bill store publishes books, rating looks prices up. Pure: it must not know usage or the database.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn, get_args

from mofang.base.domain.errors import InvalidMoney, InvalidName, InvalidPriceBook
from mofang.base.domain.money import Money
from mofang.base.domain.names import check_name
from mofang.base.domain.usage import Meter

ANY_ENDPOINT = "*"
MAX_PER = 10**15
MAX_BYTES = 1 << 20
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_TOP_KEYS = ("currency", "price")
_PRICE_KEYS = ("endpoint", "meter", "per", "amount")
_HEADER = re.compile(r"\s*\[\[\s*price\s*\]\]")


@dataclass(frozen=True, slots=True)
class Price:
    """``amount`` for every ``per`` units of ``meter``."""

    endpoint: str
    meter: str
    per: int
    amount: Money


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices in one currency. ``digest`` is ``sha256:<hex>`` over the text they were written in."""

    currency: str
    prices: tuple[Price, ...]
    digest: str

    def find(self, endpoint: str, meter: str) -> Price | None:
        """Return the most specific price of ``meter`` at ``endpoint``: the endpoint's own, else that of ``*``."""
        for name in (endpoint, ANY_ENDPOINT):
            for price in self.prices:
                if price.endpoint == name and price.meter == meter:
                    return price
        return None


@dataclass(frozen=True, slots=True)
class PublishedBook:
    """A numbered, immutable price book, in force from ``effective_at`` until a later one is."""

    version: int
    effective_at: int  # start of an hour, microseconds since the epoch
    published_at: int
    book: PriceBook

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        prices = [
            {"endpoint": price.endpoint, "meter": price.meter, "per": price.per, "amount_micros": price.amount.micros}
            for price in self.book.prices
        ]
        return {
            "version": self.version,
            "effective_at": self.effective_at,
            "published_at": self.published_at,
            "currency": self.book.currency,
            "digest": self.book.digest,
            "prices": prices,
        }


def book_at(books: Iterable[PublishedBook], at: int) -> PublishedBook | None:
    """Return the book in force at ``at``: the one with the latest start, of equals the latest published."""
    started = [book for book in books if book.effective_at <= at]
    return max(started, key=lambda book: (book.effective_at, book.version), default=None)


def books_in_force(books: Iterable[PublishedBook], start: int, end: int) -> list[PublishedBook]:
    """Return the books in force at some time from ``start`` up to ``end``, in that order."""
    every = list(books)
    starts = {start} | {book.effective_at for book in every if start < book.effective_at < end}
    found = (book_at(every, at) for at in sorted(starts))
    return [book for book in found if book is not None]


def parse_price_book(text: str) -> PriceBook:
    """Read a price book; raise InvalidPriceBook naming line, key and what was expected."""
    if len(text) > MAX_BYTES:
        raise InvalidPriceBook(f"the price book is longer than {MAX_BYTES} characters")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidPriceBook(f"the price book is no TOML: {error}") from error
    except RecursionError as error:
        raise InvalidPriceBook("the price book is nested too deeply") from error
    return _Reader(text).book(document)


class _Reader:
    """Checks one document, and knows in which line of its text a thing stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.splitlines()
        self._headers = [number for number, line in enumerate(self._lines) if _HEADER.match(line)]

    def book(self, document: Mapping[str, Any]) -> PriceBook:
        self._check_keys(document, _TOP_KEYS, None)
        currency = self._currency(document)
        tables = document.get("price", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._refuse("prices are written as [[price]]", None, "price")
        prices: dict[tuple[str, str], Price] = {}
        for index, table in enumerate(tables):
            price = self._price(table, index, currency)
            if (price.endpoint, price.meter) in prices:
                self._refuse(f"a second price of {price.meter!r} for endpoint {price.endpoint!r}", index)
            prices[price.endpoint, price.meter] = price
        if not prices:
            raise InvalidPriceBook("the price book has no [[price]]", hint="`examples/prices.toml` shows one")
        return PriceBook(currency, tuple(prices.values()), "sha256:" + hashlib.sha256(self._text.encode()).hexdigest())

    def _currency(self, document: Mapping[str, Any]) -> str:
        currency = document.get("currency", "")
        try:
            return Money(0, currency if isinstance(currency, str) else "").currency
        except InvalidMoney:
            self._refuse(f"currency is {currency!r}, not an ISO 4217 code such as EUR", None, "currency")

    def _price(self, table: Mapping[str, Any], index: int, currency: str) -> Price:
        self._check_keys(table, _PRICE_KEYS, index)
        endpoint, meter, per = table.get("endpoint", ANY_ENDPOINT), table.get("meter"), table.get("per", 1)
        if endpoint != ANY_ENDPOINT:
            try:
                check_name("endpoint", endpoint)
            except InvalidName as error:
                self._refuse(f"{error} ('*' is every endpoint)", index, "endpoint")
        if not isinstance(meter, str) or meter not in get_args(Meter):
            self._refuse(f"meter is {meter!r}{_nearest(meter, get_args(Meter))}", index, "meter")
        if type(per) is not int or not 1 <= per <= MAX_PER:
            self._refuse(f"per is {per!r}, not a whole number of units from 1 to {MAX_PER}", index, "per")
        amount = table.get("amount")
        if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
            self._refuse(
                f"amount is {amount!r}, not text such as \"0.50\" with at most six decimals", index, "amount",
                hint="quote it, since money is never a float; for finer prices raise `per`",
            )  # fmt: skip
        return Price(endpoint, meter, per, Money.parse(amount, currency))

    def _check_keys(self, table: Mapping[str, Any], known: tuple[str, ...], index: int | None) -> None:
        for key in table:
            if key not in known:
                self._refuse(f"unknown key {key!r}{_nearest(key, known)}", index, key)

    def _refuse(self, message: str, index: int | None, key: str = "", *, hint: str | None = None) -> NoReturn:
        line = self._line(index, key)
        raise InvalidPriceBook(f"line {line}: {message}" if line else message, hint=hint)

    def _line(self, index: int | None, key: str) -> int:
        """Return the line of ``key`` in the price of that index (None: outside of prices); 0 if it is not found."""
        if index is not None and index >= len(self._headers):
            return 0  # prices written inline: `price = [{...}]`
        first = 0 if index is None else self._headers[index]
        following = [number for number in self._headers if number > first or index is None]
        last = following[0] if following else len(self._lines)
        written = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
        for number in range(first, last):
            if key and written.match(self._lines[number]):
                return number + 1
        return 0 if index is None else first + 1


def _nearest(word: object, known: tuple[str, ...]) -> str:
    close = get_close_matches(str(word), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; use one of {', '.join(known)}"
