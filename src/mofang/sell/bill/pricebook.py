"""The price book: what usage costs, and for whom. Immutable once published.

A price names a meter and, as far as it is narrower than everything, tenant, endpoint, model and variant. Of several
that fit, the first of these four that one names and another does not decides. Pure: it must not know usage or the
database; ``parse.py`` reads books, the bill store publishes them, rating and quotes look prices up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

from mofang.base.domain.usage import PLAIN
from mofang.sell.bill.spec import Mode

ANY = "*"
COSTS_AS: Mapping[str, str] = MappingProxyType(
    {**PLAIN, "batch_cached_tokens": "cached_tokens", "cached_tokens": "input_tokens"}
)
"""Meters that cost as another, and count with it, where no price of their own fits."""
PPM = 1_000_000
"""Percentages are millionths: 19 % is 190,000."""


@dataclass(frozen=True, slots=True)
class Tier:
    """``micros`` for every ``per`` units of a period up to ``up_to`` of them (None: however many)."""

    up_to: int | None
    micros: int


@dataclass(frozen=True, slots=True, order=True)
class PriceScope:
    """What a price is for, in the order in which its parts decide which price is the more specific."""

    tenant: str
    endpoint: str
    model: str
    variant: str
    meter: str


@dataclass(frozen=True, slots=True)
class Price:
    """What ``scope`` costs in ``currency``: ``tiers`` per ``per`` units, counted over a tenant's period.

    The first ``free`` units cost nothing, and tiers count those after them. ``graduated``: every unit costs what its
    tier says; ``volume``: all cost what the tier of their sum says. ``whole``: a package of ``per`` that was begun
    counts as used up.
    """

    scope: PriceScope
    currency: str
    per: int
    tiers: tuple[Tier, ...]
    mode: Mode = "graduated"
    free: int = 0
    whole: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **asdict(self.scope),
            "currency": self.currency,
            "per": self.per,
            "tiers": [asdict(tier) for tier in self.tiers],
            "mode": self.mode,
            "free": self.free,
            "whole": self.whole,
        }


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for an invoice as a whole. ``tenant`` is ``*`` for all those without terms of their own."""

    tenant: str
    currency: str
    discount_ppm: int = 0
    minimum_micros: int = 0  # for a period, before tax
    tax_ppm: int = 0


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Prices and terms. ``digest`` is ``sha256:<hex>`` over the text they were written in."""

    terms: tuple[Terms, ...]  # the first is everyone's
    prices: tuple[Price, ...]
    digest: str
    _by_scope: dict[tuple[str, PriceScope], Price] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_scope", {(price.currency, price.scope): price for price in self.prices})

    @property
    def currency(self) -> str:
        """The currency of tenants that have no other."""
        return self.terms[0].currency

    def terms_of(self, tenant: str) -> Terms:
        """Return the terms of ``tenant``."""
        return next((terms for terms in self.terms if terms.tenant == tenant), self.terms[0])

    def find(self, scope: PriceScope) -> Price | None:
        """Return the most specific price of what ``scope`` names in full, in its tenant's currency.

        Without one, that of the meter it :data:`COSTS_AS`, if it does.
        """
        currency = self.terms_of(scope.tenant).currency
        narrow = (scope.tenant, scope.endpoint, scope.model, scope.variant)
        for tenant, endpoint, model, variant in product(*((part, ANY) for part in narrow)):
            price = self._by_scope.get((currency, PriceScope(tenant, endpoint, model, variant, scope.meter)))
            if price is not None:
                return price
        other = COSTS_AS.get(scope.meter)
        return None if other is None else self.find(replace(scope, meter=other))


@dataclass(frozen=True, slots=True)
class PublishedBook:
    """A numbered, immutable price book, in force from ``effective_at`` until a later one is."""

    version: int
    effective_at: int  # start of an hour, microseconds since the epoch
    published_at: int
    book: PriceBook

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "version": self.version,
            "effective_at": self.effective_at,
            "published_at": self.published_at,
            "currency": self.book.currency,
            "digest": self.book.digest,
            "terms": [asdict(terms) for terms in self.book.terms],
            "prices": [price.to_dict() for price in self.book.prices],
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
