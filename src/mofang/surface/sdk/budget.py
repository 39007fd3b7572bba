"""Budgets and quotas: how much a key, a project or a tenant may use in a month, or in all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mofang.base.domain.access import LimitScope
from mofang.base.domain.budget import BudgetPeriod
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, segment


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its present month, in micro-units of a currency or in units of a meter.

    ``spent`` is on record; ``lent`` is out with gateways, of which ``reserved`` is held for requests under way.
    """

    id: str
    scope: LimitScope
    name: str
    unit: str
    period: BudgetPeriod
    amount: int
    start: int
    spent: int
    lent: int
    reserved: int
    created_at: int


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """Who is told when ``percent`` of a budget are spent. ``secret`` signs what is sent; only a new one shows it."""

    budget: str
    percent: int
    url: str
    secret: str = ""


class Budget:
    """``client.budget``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def list(self) -> list[BudgetState]:
        """Return all budgets by scope and name, each with what is spent and held now."""
        return [*walk(self._wire, "/budgets", BudgetState)]

    def set(
        self, scope: LimitScope, name: str, amount: int, unit: str, *, period: BudgetPeriod = "month"
    ) -> BudgetState:
        """Let a key (by its id), a project or a tenant use at most ``amount`` of ``unit``; in force on return.

        ``unit`` is a currency (``amount`` in micro-units) or a meter. A budget of the same scope, unit and period is
        replaced, and what was spent of it stays spent.
        """
        body = {"scope": scope, "name": name, "unit": unit, "period": period, "amount": amount}
        return self._wire.call("PUT", "/budgets", BudgetState, body)

    def top_up(self, budget: str, amount: int) -> BudgetState:
        """Add to the amount of a budget."""
        return self._wire.call("POST", f"/budgets/{segment(budget)}/top-up", BudgetState, {"amount": amount})

    def remove(self, budget: str) -> BudgetState:
        """Remove a budget."""
        return self._wire.call("DELETE", f"/budgets/{segment(budget)}", BudgetState)

    def list_alerts(self, budget: str) -> Sequence[BudgetAlert]:
        """Return who is told of a budget."""
        return [*walk(self._wire, f"/budgets/{segment(budget)}/alerts", BudgetAlert)]

    def set_alert(self, budget: str, percent: int, url: str) -> BudgetAlert:
        """Have ``url`` told, by POST, when ``percent`` of a budget are spent, in each of its months.

        What is sent is signed as standardwebhooks.com says, with the ``secret`` of the answer, and tried again for
        three days.
        """
        body = {"percent": percent, "url": url}
        return self._wire.call("PUT", f"/budgets/{segment(budget)}/alerts", BudgetAlert, body)

    def remove_alerts(self, budget: str) -> None:
        """Tell nobody of a budget any more."""
        self._wire.send("DELETE", f"/api/v1/budgets/{segment(budget)}/alerts")
