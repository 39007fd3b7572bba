"""Budgets and quotas: set, topped up, and how much of each is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field

from mofang.base.domain.access import LimitScope, Principal, Scope
from mofang.base.domain.budget import METERS, Budget, BudgetPeriod
from mofang.base.domain.errors import BudgetNotFound, InvalidMoney, InvalidRequest
from mofang.base.domain.money import Money
from mofang.base.domain.names import now_us
from mofang.base.identity.store import IdentityStore
from mofang.sell.budget.store import BudgetState, BudgetStore, Place
from mofang.sell.budget.webhook import check_url, new_secret
from mofang.sell.meter.windows import month_of
from mofang.surface.api.access import Caller, Route, check_bounding, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import Body, Id, Page, Text

MAX_AMOUNT = 10**15  # a thousand million of a currency, in micro-units


def _unit(value: str) -> str:
    if value not in METERS:
        try:
            Money(0, value)
        except InvalidMoney:
            known = ", ".join(sorted(METERS))
            raise InvalidRequest(f"{value!r} is neither a currency nor a meter", hint=f"meters: {known}") from None
    return value


Unit = Annotated[str, Field(max_length=40), AfterValidator(_unit)]
Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)]


class BudgetBody(Body):
    """At most so much of a unit: micro-units of a currency (``EUR``), or units of a meter (``requests``)."""

    scope: LimitScope
    name: str = Field(max_length=100)
    unit: Unit
    period: BudgetPeriod = "month"
    amount: Amount


class TopUpBody(Body):
    """What is added to the amount."""

    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT)]


class AlertBody(Body):
    """Whom to tell, by POST, when so many percent of a budget are spent."""

    percent: int = Field(ge=1, le=1000)
    url: Text = Field(max_length=2000)


class AlertView(BaseModel):
    """Who is told when so many percent of a budget are spent."""

    budget: str
    percent: int
    url: str


class NewAlert(AlertView):
    """An alert that was just set. ``secret`` signs what is sent, and is shown this once."""

    secret: str


class BudgetView(BaseModel):
    """A budget in its present month. ``lent`` is out with gateways, of which ``reserved`` is held for requests under
    way; amount - spent - lent is free."""

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


class Budgets:
    """The routes of budgets. ``changed`` is told of a budget that may be smaller now, ``reserved`` what is held of one
    in a month."""

    def __init__(
        self,
        budgets: BudgetStore,
        identity: IdentityStore,
        settle: Callable[[], None],
        changes: Changes,
        changed: Callable[[str], None],
        reserved: Callable[[Place], int],
    ) -> None:
        self._budgets = budgets
        self._identity = identity
        self._settle = settle
        self._changes = changes
        self._changed = changed
        self._reserved = reserved

    def list_budgets(self) -> Page[BudgetView]:
        """List budgets, each with what is spent, lent and held now."""
        self._settle()
        states = self._budgets.states(month_of(now_us()))
        return Page(items=[self._view(each) for each in states if self._sees(each.budget)])

    def set_budget(self, body: BudgetBody, who: Caller) -> BudgetView:
        """Set a budget, in place of the one of the same scope, unit and period. It counts what is used from now on."""
        self._identity.check_scope(body.scope, body.name)
        check_bounding(who, body.scope)
        target = f"{body.scope}/{body.name}"
        place = (body.scope, body.name, body.unit, body.period)
        known = (it for it in self._budgets.list() if (it.scope, it.name, it.unit, it.period) == place)
        of = self._identity.scope_of(body.scope, body.name)
        with self._changes.record(who, "budget.set", target, of=of, before=next(known, None)) as entry:
            entry.after = found = self._budgets.put(*place, body.amount)
        return self._publish(found)

    def top_up_budget(self, budget: Id, body: TopUpBody, who: Caller) -> BudgetView:
        """Add to the amount of a budget."""
        before = self._get(budget, who).budget
        with self._changes.record(who, "budget.top_up", budget, of=self._of(before), before=before) as entry:
            entry.after = found = self._budgets.top_up(budget, body.amount)
        return self._publish(found)

    def remove_budget(self, budget: Id, who: Caller) -> BudgetView:
        """Remove a budget: what it bound is not bound by it any more."""
        state = self._get(budget, who)
        with self._changes.record(
            who, "budget.remove", budget, of=self._of(state.budget), before=state.budget, after=None
        ):
            self._budgets.remove(budget)
        self._changes.publish()
        return self._view(state)

    def list_alerts(self, budget: Id, who: Caller) -> Page[AlertView]:
        """List who is told when so many percent of a budget are spent."""
        self._get(budget, who)
        return Page(items=[AlertView(**asdict(each)) for each in self._budgets.alerts(budget)])

    def set_alert(self, budget: Id, body: AlertBody, who: Caller) -> NewAlert:
        """Have a webhook told when so many percent of a budget are spent, in each of its months."""
        of = self._of(self._get(budget, who).budget)
        check_url(body.url)
        secret = new_secret()
        with self._changes.record(who, "budget.alert", budget, of=of, before=self._budgets.alerts(budget)) as entry:
            found = self._budgets.set_alert(budget, body.percent, body.url, secret)
            entry.after = self._budgets.alerts(budget)
        return NewAlert(**asdict(found), secret=secret)

    def remove_alerts(self, budget: Id, who: Caller) -> Page[AlertView]:
        """Tell nobody of a budget any more."""
        of, before = self._of(self._get(budget, who).budget), self._budgets.alerts(budget)
        with self._changes.record(who, "budget.alert", budget, of=of, before=before, after=[]):
            self._budgets.remove_alerts(budget)
        return Page(items=[])

    def _get(self, budget: str, who: Principal) -> BudgetState:
        """Return a budget that the caller may change; raise BudgetNotFound or OutOfReach."""
        states = self._budgets.states(month_of(now_us()))
        state = next((each for each in states if each.budget.id == budget and self._sees(each.budget)), None)
        if state is None:
            raise BudgetNotFound(f"there is no budget {budget!r}")
        check_bounding(who, state.budget.scope)
        return state

    def _of(self, budget: Budget) -> Scope:
        return self._identity.scope_of(budget.scope, budget.name)

    def _sees(self, budget: Budget) -> bool:
        return self._identity.sees(budget.scope, budget.name)

    def _publish(self, budget: Budget) -> BudgetView:
        self._changes.publish()
        self._changed(budget.id)
        states = self._budgets.states(month_of(now_us()))
        return self._view(next(state for state in states if state.budget.id == budget.id))

    def _view(self, state: BudgetState) -> BudgetView:
        budget = state.budget
        reserved = min(state.lent, self._reserved((budget.id, state.start)))
        return BudgetView(
            id=budget.id,
            scope=budget.scope,
            name=budget.name,
            unit=budget.unit,
            period=budget.period,
            amount=budget.amount,
            start=state.start,
            spent=state.spent,
            lent=state.lent,
            reserved=reserved,
            created_at=budget.created_at,
        )


def router(
    budgets: BudgetStore,
    identity: IdentityStore,
    settle: Callable[[], None],
    changes: Changes,
    changed: Callable[[str], None],
    reserved: Callable[[Place], int],
) -> APIRouter:
    """Make the router of budgets."""
    api = Budgets(budgets, identity, settle, changes, changed, reserved)
    return table(
        "budget",
        Route("GET", "/budgets", "identity", api.list_budgets),
        Route("PUT", "/budgets", "identity", api.set_budget),
        Route("POST", "/budgets/{budget}/top-up", "identity", api.top_up_budget),
        Route("GET", "/budgets/{budget}/alerts", "identity", api.list_alerts),
        Route("PUT", "/budgets/{budget}/alerts", "identity", api.set_alert),
        Route("DELETE", "/budgets/{budget}/alerts", "identity", api.remove_alerts),
        Route("DELETE", "/budgets/{budget}", "identity", api.remove_budget),
    )
