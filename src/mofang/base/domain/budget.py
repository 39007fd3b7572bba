"""Budgets: how much a key, a project or a tenant may use, in money or in units; and what requests cost them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mofang.base.domain.access import LimitScope
from mofang.base.domain.money import format_micros
from mofang.base.domain.usage import BATCHED, PLAIN, Meter

BudgetPeriod = Literal["month", "total"]
METERS: frozenset[str] = frozenset(get_args(Meter)) - PLAIN.keys()
"""Meters that may be bounded: what batches use counts with the rest."""
GRAINS = 1_000_000_000
"""Grains in one unit of a budget: what a single request costs is counted in grains, so that cheap ones add up right."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``amount`` of ``unit`` in every month (UTC), or in all.

    ``unit`` is a currency (then ``amount`` is micro-units of it) or a meter (then it is units: a quota). One that does
    not begin anew each month is credit that was paid before.
    """

    id: str
    scope: LimitScope
    name: str  # of the project or tenant; the id of the key
    unit: str
    period: BudgetPeriod
    amount: int
    created_at: int = 0

    @property
    def is_money(self) -> bool:
        """Whether it is counted in money, not in units of a meter."""
        return self.unit not in METERS

    def say(self, amount: int) -> str:
        """Write an amount of this budget for people: ``10.00 EUR``, ``1000 requests``."""
        return f"{format_micros(amount) if self.is_money else amount} {self.unit}"

    def __str__(self) -> str:
        per = "a month" if self.period == "month" else "in all"
        return f"the budget of {self.scope} {self.name!r}, {self.say(self.amount)} {per}"


@dataclass(frozen=True, slots=True)
class Tariff:
    """The most that units of each meter cost one tenant behind one revision: meter -> (micro-units, per units).

    The most, since tiers, packages and discounts depend on the whole month: a budget never promises what an invoice
    could exceed. A meter that is not here is free.
    """

    currency: str
    prices: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def grains(self, quantities: Mapping[str, int]) -> int:
        """Return what ``quantities`` cost, in grains of a micro-unit, rounded up."""
        total = 0
        for meter, (micros, per) in self.prices.items():
            if quantity := quantities.get(meter):
                total -= -quantity * micros * GRAINS // per
        return total

    def in_batch(self) -> Tariff:
        """Return what the same units cost a batch."""
        prices = {meter: self.prices.get(BATCHED.get(meter, meter), price) for meter, price in self.prices.items()}
        return Tariff(self.currency, prices)


def quota_tariff(meter: str) -> Tariff:
    """Return the tariff of a budget in units: each costs one."""
    return Tariff(meter, {meter: (1, 1)})
