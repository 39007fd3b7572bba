"""What a quantity costs under one price: tiers, allowance, packages. Pure, and exact: nothing is rounded here.

Prices count over a tenant's period, so what a quantity costs depends on how much came before it in that period.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from mofang.sell.bill.pricebook import Price


@dataclass(frozen=True, slots=True, order=True)
class Step:
    """``quantity`` units at ``unit_micros`` for every ``per``."""

    quantity: int
    per: int
    unit_micros: int

    @property
    def exact(self) -> Fraction:
        """What they cost, in micro-units."""
        return Fraction(self.quantity * self.unit_micros, self.per)


def charge(price: Price, quantity: int, *, before: int, total: int) -> tuple[Step, ...]:
    """Return the steps in which ``quantity`` units cost what they do; they add up to it.

    ``before`` units of this price came earlier in the period, ``total`` are all of it; volume tiers look at the latter.
    Units of the allowance cost 0. Of packages, the units that are charged are those of all that were begun.
    """
    free = min(before + quantity, price.free) - min(before, price.free)
    steps = [Step(free, price.per, 0)] if free else []
    start, end = _charged(price, before), _charged(price, before + quantity)
    if price.mode == "volume":
        rate = next(tier for tier in price.tiers if tier.up_to is None or _charged(price, total) <= tier.up_to)
        paid = [Step(end - start, price.per, rate.micros)]
    else:
        paid = [*_graduated(price, start, end)]
    steps += [step for step in paid if step.quantity]
    return tuple(steps) or (Step(0, price.per, price.tiers[0].micros),)


def dearest(price: Price, quantity: int) -> Fraction:
    """Return the most that ``quantity`` units can cost, wherever in a period they come."""
    units = -(-quantity // price.per) * price.per if price.whole else quantity
    return Fraction(units * max(tier.micros for tier in price.tiers), price.per)


def _charged(price: Price, used: int) -> int:
    """Return how many units the first ``used`` of a period are charged as."""
    paid = max(0, used - price.free)
    return -(-paid // price.per) * price.per if price.whole else paid


def _graduated(price: Price, start: int, end: int) -> Iterator[Step]:
    """Cut the charged units ``start`` to ``end`` at the bounds of the tiers."""
    below = 0
    for tier in price.tiers:
        above = end if tier.up_to is None else min(end, tier.up_to)
        yield Step(max(0, above - max(start, below)), price.per, tier.micros)
        below = tier.up_to or 0
