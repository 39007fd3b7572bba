"""Text to PriceBook: everything is checked, and every complaint names the line, what was found and what would do."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NoReturn, TypeVar, get_args

import msgspec

from mofang.base.domain.errors import InvalidMoney, InvalidName, InvalidPriceBook
from mofang.base.domain.money import Money
from mofang.base.domain.names import check_name
from mofang.base.domain.usage import Meter
from mofang.make.recipe.lines import locate
from mofang.make.recipe.words import describe, listed, nearest, shown
from mofang.sell.bill.pricebook import ANY, PPM, Price, PriceBook, PriceScope, Terms, Tier
from mofang.sell.bill.spec import TAKES, BookSpec, PriceSpec, TenantSpec, TierSpec

MAX_BYTES = 1 << 18
MAX_LINES = 5_000
CORE_HOUR_US = 3_600_000_000
_Spec = TypeVar("_Spec", bound=msgspec.Struct)
_Path = tuple[str, ...]


@lru_cache(maxsize=256)  # the same few books are read again and again, and never change
def parse_price_book(text: str) -> PriceBook:
    """Read a price book; raise InvalidPriceBook naming line, key and what was expected."""
    if len(text) > MAX_BYTES or text.count("\n") > MAX_LINES:
        raise InvalidPriceBook(f"the price book is longer than {MAX_LINES} lines or {MAX_BYTES} characters")
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

    def book(self, document: Mapping[str, Any]) -> PriceBook:
        spec = self._spec((), "the price book", BookSpec, document)
        common = Terms(ANY, self._currency((), spec.currency or ""))
        common = self._terms((), common, spec)
        terms, prices = [common], [*self._prices((), spec.price, common)]
        for number, table in enumerate(spec.tenant):
            path = ("tenant", str(number))
            own = self._spec(path, "[[tenant]]", TenantSpec, table)
            self._name(path, "name", "tenant", own.name)
            if any(own.name == other.tenant for other in terms):
                self._fail((*path, "name"), f"a second [[tenant]] {own.name!r}")
            currency = self._currency(path, own.currency) if own.currency else common.currency
            terms.append(self._terms(path, replace(common, tenant=own.name, currency=currency), own))
            prices += self._prices(path, own.price, terms[-1])
        self._check_prices(terms, prices)
        digest = "sha256:" + hashlib.sha256(self._text.encode()).hexdigest()
        return PriceBook(tuple(terms), tuple(prices), digest)

    def _check_prices(self, terms: Sequence[Terms], prices: Sequence[Price]) -> None:
        if not prices:
            raise InvalidPriceBook("the price book has no [[price]]", hint="`examples/prices.toml` shows one")
        currencies = {price.currency for price in prices}
        for number, own in enumerate(terms[1:]):
            if own.currency not in currencies:
                path = ("tenant", str(number), "currency")
                self._fail(
                    path,
                    f"no price is in {own.currency}, the currency of tenant {own.tenant!r}",
                    hint=f"amounts are never converted: write prices with currency = {own.currency!r}",
                )

    def _terms(self, path: _Path, terms: Terms, spec: BookSpec | TenantSpec) -> Terms:
        """Return ``terms`` with what ``spec`` says otherwise."""
        said = {"discount_ppm": spec.discount_percent, "tax_ppm": spec.tax_percent}
        changed = {name: _ppm(text) for name, text in said.items() if text is not None}
        if spec.minimum is not None:
            changed["minimum_micros"] = _micros(spec.minimum)
        if changed.get("discount_ppm", 0) > PPM:
            self._fail((*path, "discount_percent"), f"a discount of {spec.discount_percent} % is more than everything")
        return replace(terms, **changed)  # type: ignore[arg-type]

    def _prices(self, where: _Path, tables: Sequence[Mapping[str, Any]], terms: Terms) -> Iterator[Price]:
        seen: set[tuple[str, PriceScope]] = set()
        for number, table in enumerate(tables):
            path = (*where, "price", str(number))
            price = self._price(path, table, terms)
            if (price.currency, price.scope) in seen:
                self._fail(path, f"a second price of {price.scope.meter!r} {_told(price.scope)}")
            seen.add((price.currency, price.scope))
            yield price

    def _price(self, path: _Path, table: Mapping[str, Any], terms: Terms) -> Price:
        spec = self._spec(path, "[[price]]", PriceSpec, table)
        for kind in ("endpoint", "model"):
            if getattr(spec, kind) != ANY:
                self._name(path, kind, kind, getattr(spec, kind))
        self._check_ways(path, spec)
        if spec.core_hour is not None:
            per, tiers = self._from_cost(path, spec)
        else:
            per = spec.package or spec.per or 1
            tiers = self._tiers(path, spec, per) if spec.tiers else (Tier(None, _micros(spec.amount or "0")),)
        return Price(
            scope=PriceScope(terms.tenant, spec.endpoint, spec.model, spec.variant, spec.meter),
            currency=self._currency(path, spec.currency) if spec.currency else terms.currency,
            per=per,
            tiers=tiers,
            mode=spec.mode or "graduated",
            free=spec.free,
            whole=spec.package is not None,
        )

    def _check_ways(self, path: _Path, spec: PriceSpec) -> None:
        """Refuse a price that says in no way, or in two ways at once, what it costs."""
        ways = {"amount": spec.amount is not None, "tiers": bool(spec.tiers), "core_hour": spec.core_hour is not None}
        given = [name for name, is_given in ways.items() if is_given]
        if not given:
            self._fail(path, f"[[price]] needs {listed(ways)}")
        if len(given) > 1:
            self._fail((*path, given[1]), f"[[price]] takes {listed(given)}, not both")
        if spec.per is not None and spec.package is not None:
            self._fail((*path, "package"), "[[price]] takes 'per' or 'package', not both")
        if spec.mode is not None and not spec.tiers:
            self._fail((*path, "mode"), "[[price]] mode is for 'tiers'")

    def _from_cost(self, path: _Path, spec: PriceSpec) -> tuple[int, tuple[Tier, ...]]:
        """Return the exact price of compute from what a core-hour costs the owner, and the margin on it."""
        if spec.meter != "compute_us":
            self._fail((*path, "core_hour"), f"core_hour prices the meter 'compute_us', not {spec.meter!r}")
        if spec.per is not None or spec.package is not None:
            self._fail((*path, "core_hour"), "core_hour says for how many units: leave 'per' and 'package' out")
        numerator = _micros(spec.core_hour or "0") * (PPM + _ppm(spec.margin_percent or "0"))
        micros, rest = divmod(numerator, PPM)
        return (CORE_HOUR_US * PPM, (Tier(None, numerator),)) if rest else (CORE_HOUR_US, (Tier(None, micros),))

    def _tiers(self, path: _Path, spec: PriceSpec, per: int) -> tuple[Tier, ...]:
        tiers: list[Tier] = []
        for number, table in enumerate(spec.tiers, 1):
            tier = self._spec((*path, "tiers"), f"tier {number} of [[price]]", TierSpec, table)
            is_last = number == len(spec.tiers)
            below = tiers[-1].up_to or 0 if tiers else 0
            if is_last and tier.up_to is not None:
                self._fail((*path, "tiers"), "the last tier has no up_to: it is for all that is above")
            if not is_last and (tier.up_to is None or tier.up_to <= below):
                self._fail((*path, "tiers"), f"tier {number} needs an up_to above {below}, got {tier.up_to}")
            if spec.package and (tier.up_to or 0) % per:
                self._fail((*path, "tiers"), f"up_to {tier.up_to} of tier {number} is no whole number of packages")
            tiers.append(Tier(tier.up_to, _micros(tier.amount)))
        return tuple(tiers)

    def _spec(self, path: _Path, where: str, kind: type[_Spec], table: Mapping[str, Any]) -> _Spec:
        known = kind.__struct_fields__
        for key in table:
            if key not in known:
                self._fail((*path, key), f"{where} has no key {key!r}; {nearest(key, known)}")
        try:
            return msgspec.convert(table, kind)
        except msgspec.ValidationError as error:
            missing, found = re.search(r"required field `(\w+)`", str(error)), re.search(r"`\$\.(\w+)", str(error))
            if missing:
                self._fail(path, f"{where} needs {missing[1]!r}")
            key = found[1] if found else ""
            if key == "meter":
                advice = nearest(table[key], get_args(Meter))
                self._fail((*path, key), f"{where} meter {shown(table[key])} is unknown; {advice}")
            takes = TAKES.get(key) or describe(kind, key)
            self._fail((*path, key), f"{where} {key} takes {takes}; got {shown(table.get(key))}")

    def _currency(self, path: _Path, text: str) -> str:
        try:
            return Money(0, text).currency
        except InvalidMoney:
            self._fail((*path, "currency"), f"currency is {text!r}, but it takes {TAKES['currency']}")

    def _name(self, path: _Path, key: str, kind: str, name: str) -> None:
        try:
            check_name(kind, name)
        except InvalidName as error:
            self._fail((*path, key), f"{key}: {error}" + ("" if key == "name" else " ('*' is every one)"))

    def _fail(self, path: _Path, message: str, *, hint: str | None = None) -> NoReturn:
        lines = locate(self._text)
        places = (path[:length] for length in range(len(path), 0, -1))
        line = next((lines[place] for place in places if place in lines), None)
        raise InvalidPriceBook(message if line is None else f"line {line}: {message}", hint=hint) from None


def _told(scope: PriceScope) -> str:
    parts = {"endpoint": scope.endpoint, "model": scope.model, "variant": scope.variant}
    named = [f"{kind} {name!r}" for kind, name in parts.items() if name != ANY]
    return f"for {', '.join(named)}" if named else "for everything"


def _micros(text: str) -> int:
    return Money.parse(text, "XXX").micros


def _ppm(text: str) -> int:
    return Money.parse(text, "XXX").micros // 100
