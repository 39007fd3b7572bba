"""Rating: usage times prices, as a pure function of both, re-runnable to the byte.

A line is one price of one book: all that it priced in the period, with the parts that used it. What a line costs is an
exact rational until the one rounding, half to even, that makes it whole micro-units. The order in which usage arrives,
and how it was cut into rows, changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, NamedTuple

from mofang.base.domain.money import round_half_even
from mofang.sell.bill.charge import Step, charge
from mofang.sell.bill.pricebook import ANY, PPM, Price, PriceBook, PriceScope, PublishedBook, books_in_force
from mofang.sell.meter.windows import UsageRow

LineKind = Literal["usage", "discount", "minimum", "adjustment", "credit"]
NO_SCOPE = PriceScope(ANY, ANY, ANY, ANY, "")


class Origin(NamedTuple):
    """Which model a version is of, and which variant: ``original``, or how it was compressed."""

    model: str
    variant: str


class Served(NamedTuple):
    """A version behind an endpoint. The same files may be versions of several models, of people who know nothing of
    each other: which is meant, the endpoint tells."""

    endpoint: str
    digest: str
    version: int


Origins = Mapping[Served, Origin]
"""The origin of every version that was served."""
Tell = Callable[[Iterable[Served]], Origins]
"""Tells the origins of versions."""
UNKNOWN = Origin("", "")


def served(row: UsageRow) -> Served:
    """Return what a row of usage is of."""
    return Served(row.endpoint, row.digest, row.version)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """What one version behind one endpoint contributed to a line."""

    endpoint: str
    version: int
    digest: str
    model: str
    variant: str
    quantity: int


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One amount, and where it comes from.

    ``usage``: ``quantity`` units of ``scope.meter`` that ``parts`` used from ``start`` to ``end``, in ``steps``, by the
    price of ``scope`` in ``price_book``. ``discount``: ``ppm`` millionths off the lines ``of``. ``minimum``: what was
    missing. ``adjustment``: what late usage changes about an earlier period. ``credit``: what is given back of a line.
    """

    number: int  # from 1
    kind: LineKind
    start: int
    end: int
    price_book: int  # version; 0: none
    scope: PriceScope
    quantity: int
    steps: tuple[Step, ...]
    parts: tuple[Part, ...]
    of: tuple[int, ...]  # numbers of the lines a discount or credit is taken from
    ppm: int
    amount_micros: int


@dataclass(frozen=True, slots=True, order=True)
class Unrated:
    """Usage of a meter that has no price: it costs nothing, and is shown all the same."""

    endpoint: str
    version: int
    digest: str
    meter: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Rating:
    """All usage: with a price as ``lines``, without one as ``unrated``; both in a fixed order."""

    lines: tuple[InvoiceLine, ...]
    unrated: tuple[Unrated, ...]

    @property
    def total_micros(self) -> int:
        """The sum of the lines."""
        return sum(line.amount_micros for line in self.lines)


class _Span(NamedTuple):
    """A part of the period, and the book in force in it."""

    start: int
    end: int
    book: PublishedBook


def rate(
    usage: Iterable[UsageRow],
    books: Sequence[PublishedBook],
    tenant: str,
    start: int,
    end: int,
    origins: Origins = MappingProxyType({}),
) -> Rating:
    """Price what ``tenant`` used from ``start`` up to ``end``, each hour by the book in force then.

    What no book covers is unrated. ``usage`` lies in the period.
    """
    spans = [*_spans(books, start, end)]
    groups, unrated = _group(usage, spans, tenant, origins)
    lines: list[InvoiceLine] = []
    for scope in sorted(groups):
        lines += _usage_lines(len(lines) + 1, scope, spans, groups[scope])
    lines += _discounts(spans, tenant, lines)
    lines += _minimum(spans, tenant, start, end, lines)
    return Rating(tuple(lines), tuple(sorted(Unrated(*key, quantity) for key, quantity in unrated.items())))


def _spans(books: Sequence[PublishedBook], start: int, end: int) -> Iterator[_Span]:
    valid = books_in_force(books, start, end)
    starts = [max(start, book.effective_at) for book in valid] + [end]
    for number, book in enumerate(valid):
        yield _Span(starts[number], starts[number + 1], book)


_Key = tuple[str, int, str, str]  # endpoint, version, digest, meter
_Groups = dict[PriceScope, dict[int, tuple[Price, list[Part]]]]  # by scope of the price, by number of the span


def _group(
    usage: Iterable[UsageRow], spans: Sequence[_Span], tenant: str, origins: Origins
) -> tuple[_Groups, dict[_Key, int]]:
    """Sum usage by the price that fits, apart from what has none."""
    by_hour: dict[int, int | None] = {}
    sums: defaultdict[tuple[int | None, _Key], int] = defaultdict(int)
    for row in usage:
        if row.hour not in by_hour:
            found = (number for number, span in enumerate(spans) if span.start <= row.hour < span.end)
            by_hour[row.hour] = next(found, None)
        sums[by_hour[row.hour], (row.endpoint, row.version, row.digest, row.meter)] += row.quantity
    groups: _Groups = {}
    unrated: defaultdict[_Key, int] = defaultdict(int)
    for (number, key), quantity in sums.items():
        endpoint, version, digest, meter = key
        origin = origins.get(Served(endpoint, digest, version), UNKNOWN)
        price = None if number is None else spans[number].book.book.find(PriceScope(tenant, endpoint, *origin, meter))
        if number is None or price is None:
            unrated[key] += quantity
            continue
        _, parts = groups.setdefault(price.scope, {}).setdefault(number, (price, []))
        parts.append(Part(endpoint, version, digest, *origin, quantity))
    return groups, unrated


def _usage_lines(
    first: int, scope: PriceScope, spans: Sequence[_Span], found: Mapping[int, tuple[Price, list[Part]]]
) -> Iterator[InvoiceLine]:
    """Yield the line of every book that priced ``scope``; its tiers and allowance go on from one book to the next."""
    total = sum(part.quantity for _, parts in found.values() for part in parts)
    before = 0
    for offset, number in enumerate(sorted(found)):
        price, parts = found[number]
        quantity = sum(part.quantity for part in parts)
        steps = charge(price, quantity, before=before, total=total)
        before += quantity
        span = spans[number]
        yield InvoiceLine(
            number=first + offset,
            kind="usage",
            start=span.start,
            end=span.end,
            price_book=span.book.version,
            scope=scope,
            quantity=quantity,
            steps=steps,
            parts=tuple(sorted(parts)),
            of=(),
            ppm=0,
            amount_micros=round_half_even(sum((step.exact for step in steps), Fraction(0))),
        )


def _discounts(spans: Sequence[_Span], tenant: str, lines: Sequence[InvoiceLine]) -> Iterator[InvoiceLine]:
    number = len(lines) + 1
    for span in spans:
        ppm = span.book.book.terms_of(tenant).discount_ppm
        of = [line for line in lines if line.price_book == span.book.version]
        amount = -round_half_even(Fraction(sum(line.amount_micros for line in of) * ppm, PPM))
        if amount:
            numbers = tuple(line.number for line in of)
            yield plain_line(number, "discount", span.start, span.end, amount, span.book.version, of=numbers, ppm=ppm)
            number += 1


def _minimum(
    spans: Sequence[_Span], tenant: str, start: int, end: int, lines: Sequence[InvoiceLine]
) -> Iterator[InvoiceLine]:
    """Yield what is missing to the minimum of the last book."""
    if spans:
        book = spans[-1].book
        missing = book.book.terms_of(tenant).minimum_micros - sum(line.amount_micros for line in lines)
        if missing > 0:
            yield plain_line(len(lines) + 1, "minimum", start, end, missing, book.version)


def plain_line(
    number: int,
    kind: LineKind,
    start: int,
    end: int,
    amount_micros: int,
    price_book: int = 0,
    *,
    scope: PriceScope = NO_SCOPE,
    of: tuple[int, ...] = (),
    ppm: int = 0,
) -> InvoiceLine:
    """Return a line that has no usage of its own."""
    return InvoiceLine(number, kind, start, end, price_book, scope, 0, (), (), of, ppm, amount_micros)


def count_by_price(
    usage: Iterable[UsageRow], book: PriceBook, tenant: str, origins: Origins
) -> Mapping[PriceScope, int]:
    """Return how many units of ``usage`` each price of ``book`` counts."""
    counted: defaultdict[PriceScope, int] = defaultdict(int)
    for row in usage:
        origin = origins.get(served(row), UNKNOWN)
        price = book.find(PriceScope(tenant, row.endpoint, *origin, row.meter))
        if price is not None:
            counted[price.scope] += row.quantity
    return counted


def less(usage: Iterable[UsageRow], taken: Iterable[UsageRow]) -> list[UsageRow]:
    """Return ``usage`` without what was ``taken`` out of it, hour by hour."""
    left = {replace(row, quantity=0): row.quantity for row in usage}
    for row in taken:
        left[replace(row, quantity=0)] -= row.quantity
    return [replace(row, quantity=quantity) for row, quantity in left.items() if quantity]
