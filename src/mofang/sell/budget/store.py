"""Budgets, what was spent of them, and what is lent to whom, as tables.

Of every budget, in every month: ``spent`` (on record and folded) + ``lent`` (to gateways, not accounted for yet) is at
most its amount. Lending is one conditional update; folding moves from ``lent`` to ``spent`` in the transaction of the
fold; what a gateway gives back, or leaves when it dies, becomes free. The settler and the lender write, the control API
reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    Row,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
    text,
    update,
)

from mofang.base.domain.access import LimitScope
from mofang.base.domain.budget import Budget, BudgetPeriod
from mofang.base.domain.errors import BudgetNotFound
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.usage import Charge
from mofang.base.storage.database import Database, metadata

_budgets = Table(
    "budgets",
    metadata,
    Column("id", String, primary_key=True),
    Column("scope", String, nullable=False),
    Column("name", String, nullable=False),
    Column("unit", String, nullable=False),
    Column("period", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("scope", "name", "unit", "period"),
)
_months = Table(
    "budget_months",
    metadata,
    Column("budget", String, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),  # 0: the budget has no months
    Column("spent", BigInteger, nullable=False),
    Column("lent", BigInteger, nullable=False),
)
_leases = Table(
    "budget_leases",
    metadata,
    Column("holder", String, primary_key=True),  # one life of a gateway: the writer of its journal
    Column("budget", String, primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("granted", BigInteger, nullable=False),  # these three only grow
    Column("returned", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
)

_alerts = Table(
    "budget_alerts",
    metadata,
    Column("budget", String, primary_key=True),
    Column("percent", Integer, primary_key=True, autoincrement=False),
    Column("url", String, nullable=False),
    Column("secret", String, nullable=False),  # signs what is sent: so it is kept as it is
)
_notices = Table(
    "budget_notices",
    metadata,
    Column("id", String, primary_key=True),
    Column("budget", String, nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger),  # null: delivered, or given up
    Column("delivered_at", BigInteger),
    UniqueConstraint("budget", "start", "percent"),
)

_LEND = text(
    "UPDATE budget_months SET lent = lent + :units WHERE budget = :budget AND start = :start"
    " AND spent + lent + :units <= (SELECT amount FROM budgets WHERE id = :budget)"
)
_ADD_LEASE = text(
    "INSERT INTO budget_leases (holder, budget, start, granted, returned, charged)"
    " VALUES (:holder, :budget, :start, :units, 0, 0)"
    " ON CONFLICT (holder, budget, start) DO UPDATE SET granted = budget_leases.granted + excluded.granted"
)
_SPEND = text(
    "UPDATE budget_months SET spent = spent + :amount, lent = lent - :amount WHERE budget = :budget AND start = :start"
)

Place = tuple[str, int]
"""A budget and the start of a month."""
Decide = Callable[[int, Mapping[str, int]], Mapping[str, int]]
"""From what is free, and what is out with each holder, to what each is lent now."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in its present month: ``spent`` is in the ledger, ``lent`` is out with gateways."""

    budget: Budget
    start: int
    spent: int
    lent: int


@dataclass(frozen=True, slots=True)
class Alert:
    """Where to tell that ``percent`` of a budget are spent."""

    budget: str
    percent: int
    url: str


@dataclass(frozen=True, slots=True)
class Notice:
    """That a budget reached a threshold, to be told."""

    id: str
    budget: Budget
    start: int
    percent: int
    at: int
    amount: int
    spent: int
    attempts: int
    url: str
    secret: str


class BudgetStore:
    """Budgets in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, scope: LimitScope, name: str, unit: str, period: BudgetPeriod, amount: int) -> Budget:
        """Set a budget, in place of the one of the same scope, unit and period; what was spent of that one stays."""
        with self._database.write() as connection:
            known = _find(connection, scope, name, unit, period)
            if known is not None:
                connection.execute(update(_budgets).where(_budgets.c.id == known.id).values(amount=amount))
                return self.get(known.id)
            made = Budget(new_id("bud"), scope, name, unit, period, amount, now_us())
            connection.execute(insert(_budgets).values({f: getattr(made, f) for f in Budget.__slots__}))
            return made

    def top_up(self, budget: str, amount: int) -> Budget:
        """Add to the amount of a budget; raise BudgetNotFound."""
        with self._database.write() as connection:
            self.get(budget)
            query = update(_budgets).where(_budgets.c.id == budget)
            connection.execute(query.values(amount=_budgets.c.amount + amount))
            return self.get(budget)

    def remove(self, budget: str) -> Budget:
        """Forget a budget; raise BudgetNotFound."""
        with self._database.write() as connection:
            found = self.get(budget)
            for table in (_months, _leases, _alerts, _notices):
                connection.execute(delete(table).where(table.c.budget == budget))
            connection.execute(delete(_budgets).where(_budgets.c.id == budget))
            return found

    def set_alert(self, budget: str, percent: int, url: str, secret: str) -> Alert:
        """Tell ``url`` when ``percent`` of a budget are spent, in each of its months; raise BudgetNotFound."""
        with self._database.write() as connection:
            self.get(budget)
            where = (_alerts.c.budget == budget, _alerts.c.percent == percent)
            connection.execute(delete(_alerts).where(*where))
            connection.execute(insert(_alerts).values(budget=budget, percent=percent, url=url, secret=secret))
        return Alert(budget, percent, url)

    def remove_alerts(self, budget: str) -> None:
        """Tell nobody any more; raise BudgetNotFound."""
        with self._database.write() as connection:
            self.get(budget)
            connection.execute(delete(_alerts).where(_alerts.c.budget == budget))

    def alerts(self, budget: str) -> Sequence[Alert]:
        """Return the alerts of a budget by their thresholds; raise BudgetNotFound."""
        with self._database.read() as connection:
            self.get(budget)
            query = select(_alerts).where(_alerts.c.budget == budget).order_by(_alerts.c.percent)
            return [Alert(row.budget, row.percent, row.url) for row in connection.execute(query)]

    def due_notices(self, now: int) -> Sequence[Notice]:
        """Return what is to be told by ``now``."""
        alert = (_alerts.c.budget == _notices.c.budget) & (_alerts.c.percent == _notices.c.percent)
        query = select(_notices, _alerts.c.url, _alerts.c.secret).join_from(_notices, _alerts, alert)
        with self._database.read() as connection:
            rows = connection.execute(query.where(_notices.c.next_at <= now).order_by(_notices.c.at).limit(100)).all()
            budgets = {row.budget: self.get(row.budget) for row in rows}
        return [
            Notice(
                row.id, budgets[row.budget], row.start, row.percent, row.at, row.amount, row.spent, row.attempts,
                row.url, row.secret,
            )
            for row in rows
        ]  # fmt: skip

    def note_attempt(self, notice: str, next_at: int | None) -> None:
        """A notice was not taken: try again at ``next_at``, or not at all."""
        values = {"attempts": _notices.c.attempts + 1, "next_at": next_at}
        with self._database.write() as connection:
            connection.execute(update(_notices).where(_notices.c.id == notice).values(**values))

    def note_delivery(self, notice: str, at: int) -> None:
        """A notice was taken."""
        values = {"attempts": _notices.c.attempts + 1, "next_at": None, "delivered_at": at}
        with self._database.write() as connection:
            connection.execute(update(_notices).where(_notices.c.id == notice).values(**values))

    def get(self, budget: str) -> Budget:
        """Return a budget; raise BudgetNotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(_budgets).where(_budgets.c.id == budget)).one_or_none()
        if row is None:
            raise BudgetNotFound(f"there is no budget {budget!r}")
        return Budget(*row)

    def states(self, start_of_month: int) -> list[BudgetState]:
        """Return how every budget stands in the month that began at ``start_of_month``."""
        with self._database.read() as connection:
            months = {(row.budget, row.start): row for row in connection.execute(select(_months))}
        found = []
        for budget in self.list():
            start = start_of_month if budget.period == "month" else 0
            row = months.get((budget.id, start))
            found.append(BudgetState(budget, start, row.spent if row else 0, row.lent if row else 0))
        return found

    def lend(self, place: Place, returned: Mapping[str, int], decide: Decide) -> dict[str, int]:
        """Book what holders have given back in all, then lend what ``decide`` says, all in one transaction.

        ``decide`` is asked with what is free and what is out with each. Returns what each holder was lent in all.
        """
        budget, start = place
        with self._database.write() as connection:
            amount = connection.scalar(select(_budgets.c.amount).where(_budgets.c.id == budget))
            if amount is None:  # it was removed
                decide(0, {})
                return {}
            leases = {row.holder: row for row in _of_place(connection, place)}
            for holder, total in returned.items():
                if holder in leases and total > leases[holder].returned:
                    _book_return(connection, leases[holder], total)
            month = _month(connection, place)
            out = {row.holder: row.granted - row.returned - row.charged for row in _of_place(connection, place)}
            free = max(0, amount - month.spent - month.lent)
            for holder, units in decide(free, out).items():
                values = {"holder": holder, "budget": budget, "start": start, "units": units}
                if units and connection.execute(_LEND, values).rowcount:
                    connection.execute(_ADD_LEASE, values)
            return {row.holder: row.granted for row in _of_place(connection, place)}

    def granted(self, holder: str) -> dict[Place, int]:
        """Return what ``holder`` was lent in all, by place."""
        columns = (_leases.c.budget, _leases.c.start, _leases.c.granted)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(_leases.c.holder == holder))
            return {(row.budget, row.start): row.granted for row in rows}

    def holders(self) -> set[str]:
        """Return everybody who holds a lease."""
        with self._database.read() as connection:
            return set(connection.scalars(select(_leases.c.holder).distinct()))

    def settle(self, holder: str, charges: Iterable[Charge]) -> None:
        """Move ``charges`` that ``holder`` put on record from what is lent to what is spent.

        Called inside the transaction that brings those records into the ledger.
        """
        sums: defaultdict[Place, int] = defaultdict(int)
        for charge in charges:
            sums[charge.budget, charge.start] += charge.amount
        with self._database.write() as connection:
            for (budget, start), amount in sums.items():
                connection.execute(_SPEND, {"budget": budget, "start": start, "amount": amount})
                where = (_leases.c.holder == holder, _leases.c.budget == budget, _leases.c.start == start)
                connection.execute(update(_leases).where(*where).values(charged=_leases.c.charged + amount))
                _notice(connection, (budget, start))

    def release(self, holder: str) -> None:
        """Free all that is out with ``holder``, which is dead and whose journal is in the ledger to its end."""
        with self._database.write() as connection:
            for row in connection.execute(select(_leases).where(_leases.c.holder == holder)).all():
                _add_to_lent(connection, (row.budget, row.start), row.charged + row.returned - row.granted)
            connection.execute(delete(_leases).where(_leases.c.holder == holder))

    def list(self) -> list[Budget]:
        """Return all budgets by scope and name."""
        order = (_budgets.c.scope, _budgets.c.name, _budgets.c.unit, _budgets.c.period)
        with self._database.read() as connection:
            return [Budget(*row) for row in connection.execute(select(_budgets).order_by(*order))]


def _notice(connection: Connection, place: Place) -> None:
    """Put down that a budget has reached a threshold, once for each in a month, in the transaction that did it."""
    budget, start = place
    amount = connection.scalar(select(_budgets.c.amount).where(_budgets.c.id == budget))
    thresholds = connection.scalars(select(_alerts.c.percent).where(_alerts.c.budget == budget)).all()
    if amount is None or not thresholds:
        return
    spent = _month(connection, place).spent
    where = (_notices.c.budget == budget, _notices.c.start == start)
    told = set(connection.scalars(select(_notices.c.percent).where(*where)))
    at = now_us()
    for percent in sorted(set(thresholds) - told):
        if spent * 100 >= amount * percent:
            values = {"budget": budget, "start": start, "percent": percent, "amount": amount, "spent": spent}
            values |= {"id": new_id("ntc"), "at": at, "attempts": 0, "next_at": at}
            connection.execute(insert(_notices).values(**values))


def _find(connection: Connection, scope: str, name: str, unit: str, period: str) -> Budget | None:
    values = {"scope": scope, "name": name, "unit": unit, "period": period}
    query = select(_budgets).where(*(_budgets.c[column] == value for column, value in values.items()))
    row = connection.execute(query).one_or_none()
    return None if row is None else Budget(*row)


def _of_place(connection: Connection, place: Place) -> Sequence[Row[Any]]:
    return connection.execute(select(_leases).where(_leases.c.budget == place[0], _leases.c.start == place[1])).all()


def _month(connection: Connection, place: Place) -> Row[Any]:
    query = select(_months).where(_months.c.budget == place[0], _months.c.start == place[1])
    row = connection.execute(query).one_or_none()
    if row is None:
        connection.execute(insert(_months).values(budget=place[0], start=place[1], spent=0, lent=0))
        row = connection.execute(query).one()
    return row


def _book_return(connection: Connection, lease: Row[Any], total: int) -> None:
    where = (_leases.c.holder == lease.holder, _leases.c.budget == lease.budget, _leases.c.start == lease.start)
    connection.execute(update(_leases).where(*where).values(returned=total))
    _add_to_lent(connection, (lease.budget, lease.start), lease.returned - total)


def _add_to_lent(connection: Connection, place: Place, units: int) -> None:
    where = (_months.c.budget == place[0], _months.c.start == place[1])
    connection.execute(update(_months).where(*where).values(lent=_months.c.lent + units))
