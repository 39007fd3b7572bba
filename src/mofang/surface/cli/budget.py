"""`mofang budget`: how much a key, a project or a tenant may use in a month, or in all, in money or in units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mofang.base.domain.budget import METERS
from mofang.base.domain.errors import BudgetNotFound
from mofang.base.domain.money import Money, format_micros
from mofang.surface.cli import format, screen
from mofang.surface.cli.limits import target
from mofang.surface.cli.session import Session
from mofang.surface.cli.verbs import topic

if TYPE_CHECKING:
    from mofang.surface.sdk.budget import BudgetState

BUDGET_JSON = (
    "id, scope, name, unit, period (month, total), amount, start (of the month; 0: none), spent, lent (to gateways), "
    "reserved (of that, for requests under way), created_at; money is in micro-units"
)

budget = topic("budget", "Budgets and quotas: nobody uses more than was agreed.", usual="show")


@budget.verb("show", example="mofang budget", json=f"{{items}}, each: {BUDGET_JSON}.")
@click.pass_obj
def show(session: Session) -> None:
    """Show every budget: what is spent, held for requests under way, and left."""
    found = session.client.budget.list()
    empty = "there are no budgets; `mofang budget set 100 EUR --tenant T` sets one"
    session.answer_list(found, lambda: screen.table(HEADS, [_row(each) for each in found], empty=empty))


@budget.verb(
    "set",
    example="mofang budget set 100 EUR --tenant acme\n"
    "mofang budget set 25 EUR --project shop --in-all\n"
    "mofang budget set 100000 requests --project shop",
    json=f"One object: {BUDGET_JSON}.",
)
@click.argument("amount")
@click.argument("unit")
@click.option("--project", metavar="NAME", help="All keys of a project together.")
@click.option("--tenant", metavar="NAME", help="All projects of a tenant together.")
@click.option("--key-id", metavar="ID", help="One key.")
@click.option("--in-all", is_flag=True, help="Once, not every month: credit that is paid before.")
@click.pass_obj
def set_budget(
    session: Session,
    amount: str,
    unit: str,
    project: str | None,
    tenant: str | None,
    key_id: str | None,
    in_all: bool,
) -> None:
    """Let a key, a project or a tenant use at most AMOUNT of UNIT: a currency, or a meter such as requests."""
    scope, name = target(project, tenant, key_id)
    units = _amount(amount, unit)
    found = session.client.budget.set(scope, name, units, unit, period="total" if in_all else "month")
    session.answer(found, lambda: _draw(found, f"{scope} {name} cannot use more than this from now on"))


@budget.verb("add", example="mofang budget add bud_01h... 50", json=f"One object: {BUDGET_JSON}.")
@click.argument("budget_id", metavar="BUDGET")
@click.argument("amount")
@click.pass_obj
def add(session: Session, budget_id: str, amount: str) -> None:
    """Add AMOUNT to a budget."""
    found = next((each for each in session.client.budget.list() if each.id == budget_id), None)
    if found is None:
        raise BudgetNotFound(f"there is no budget {budget_id!r}")
    topped = session.client.budget.top_up(budget_id, _amount(amount, found.unit))
    session.answer(topped, lambda: _draw(topped, f"{_say(topped, topped.amount)} now"))


@budget.verb("remove", example="mofang budget remove bud_01h...", json=f"One object: {BUDGET_JSON}.")
@click.argument("budget_id", metavar="BUDGET")
@click.pass_obj
def remove(session: Session, budget_id: str) -> None:
    """Remove a budget: what it bound is not bound by it any more."""
    found = session.client.budget.remove(budget_id)
    session.answer(found, lambda: _draw(found, f"{found.scope} {found.name} is not held to this any more"))


@budget.verb(
    "alert",
    example="mofang budget alert bud_01h... --at 80 --tell https://example.org/hook\n"
    "mofang budget alert bud_01h... --off",
    json="{items}, each: budget, percent, url, secret (of a new one only).",
)
@click.argument("budget_id", metavar="BUDGET")
@click.option("--at", "percent", type=click.IntRange(1, 1000), metavar="PERCENT", help="When so much of it is spent.")
@click.option("--tell", "hook", metavar="URL", help="Whom to tell, by POST.")
@click.option("--off", is_flag=True, help="Tell nobody any more.")
@click.pass_obj
def alert(session: Session, budget_id: str, percent: int | None, hook: str | None, off: bool) -> None:
    """Have a webhook told when so much of a budget is spent, each month; or show who is told."""
    if (percent is None) != (hook is None):
        raise click.UsageError("--at and --tell go together")
    if off:
        session.client.budget.remove_alerts(budget_id)
    made = session.client.budget.set_alert(budget_id, percent, hook) if percent and hook else None
    found = [made] if made else list(session.client.budget.list_alerts(budget_id))

    def draw() -> None:
        rows = [(f"{each.percent} %", each.url) for each in found]
        screen.table((">at", "tell"), rows, empty="nobody is told")
        if made:
            screen.fields([("secret", f"{made.secret}  (shown once; it signs what is sent)")])

    session.answer_list(found, draw)


HEADS = ("budget", "scope", "name", ">amount", "unit", "per", ">spent", ">held", ">left")


def _row(each: BudgetState) -> tuple[str, ...]:
    numbers = [_number(each, n) for n in (each.spent, each.reserved, max(0, each.amount - each.spent))]
    per = "month" if each.period == "month" else "in all"
    return (each.id, each.scope, each.name, _number(each, each.amount), each.unit, per, *numbers)


def _draw(each: BudgetState, heading: str) -> None:
    screen.heading(heading)
    screen.table(HEADS, [_row(each)])


def _number(each: BudgetState, amount: int) -> str:
    return format.count(amount) if each.unit in METERS else format_micros(amount)


def _say(each: BudgetState, amount: int) -> str:
    return f"{_number(each, amount)} {each.unit}"


def _amount(text: str, unit: str) -> int:
    """Read an amount of money, or of units; raise InvalidMoney, or a usage error."""
    if unit not in METERS:
        return Money.parse(text, unit).micros
    if not text.isdecimal():
        raise click.UsageError(f"{text!r} is no whole number of {unit}")
    return int(text)
