"""Budgets as tables: what is lent, spent, given back and left behind, with the ledger in one transaction."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ledgers import usage, write_journal
from mofang.base.domain.errors import BudgetNotFound
from mofang.base.domain.usage import Charge
from mofang.base.storage.database import Database
from mofang.base.storage.journal import announce, writer_of
from mofang.sell.budget.release import release_dead
from mofang.sell.budget.store import BudgetState, BudgetStore
from mofang.sell.meter.settler import Settler
from mofang.sell.meter.store import UsageStore


@pytest.fixture
def store(database: Database) -> BudgetStore:
    return BudgetStore(database)


def state(store: BudgetStore) -> BudgetState:
    (found,) = store.states(0)
    return found


def lend(store: BudgetStore, budget: str, returned: dict[str, int] | None = None, **units: int) -> dict[str, int]:
    return store.lend((budget, 0), returned or {}, lambda free, out: units)


def test_a_budget_is_replaced_topped_up_and_removed(store: BudgetStore) -> None:
    first = store.put("tenant", "acme", "EUR", "total", 100)
    assert store.put("tenant", "acme", "EUR", "total", 50).id == first.id
    assert store.put("tenant", "acme", "EUR", "month", 70).id != first.id
    assert store.top_up(first.id, 25).amount == 75
    assert [budget.amount for budget in store.list()] == [70, 75]
    store.remove(first.id)
    for gone in (lambda: store.get(first.id), lambda: store.remove(first.id), lambda: store.top_up(first.id, 1)):
        with pytest.raises(BudgetNotFound):
            gone()


def test_no_more_is_lent_than_there_is(store: BudgetStore) -> None:
    budget = store.put("tenant", "acme", "requests", "total", 10).id
    assert lend(store, budget, a=7) == {"a": 7}
    assert lend(store, budget, b=4) == {"a": 7}
    assert lend(store, budget, b=3) == {"a": 7, "b": 3}
    seen = []
    store.lend((budget, 0), {"a": 5}, lambda free, out: seen.append((free, dict(out))) or {})
    assert seen == [(5, {"a": 2, "b": 3})]
    assert lend(store, budget, {"a": 5}, b=5) == {"a": 7, "b": 8}  # said twice, given back once
    assert (state(store).spent, state(store).lent) == (0, 10)
    store.put("tenant", "acme", "requests", "total", 4)
    assert lend(store, budget, a=1) == {"a": 7, "b": 8}


def test_a_charge_reaches_the_budget_in_the_fold_of_its_record(
    store: BudgetStore, database: Database, tmp_path: Path
) -> None:
    budget = store.put("tenant", "acme", "requests", "total", 10).id
    ledger = UsageStore(database, lambda segment, charges: store.settle(writer_of(segment), charges))
    lend(store, budget, **{"gateway-0-7": 8})
    alive = announce(tmp_path, "gateway-0-7")
    records = [usage(number, charges=(Charge(budget, 0, 1),)) for number in range(3)]
    write_journal(tmp_path, [*records, records[0]], writer="gateway-0-7")
    release_dead(tmp_path, store)
    Settler(tmp_path, ledger).fold()
    Settler(tmp_path, ledger).fold()
    release_dead(tmp_path, store)
    assert (state(store).spent, state(store).lent) == (3, 5)  # a record that comes twice is charged once
    os.close(alive)
    release_dead(tmp_path, store)
    assert (state(store).spent, state(store).lent) == (3, 0)
    assert store.holders() == set()
    assert not list(tmp_path.glob("*.alive"))


def test_what_a_dead_gateway_held_stays_until_its_records_are_folded(
    store: BudgetStore, database: Database, tmp_path: Path
) -> None:
    budget = store.put("tenant", "acme", "requests", "total", 10).id
    lend(store, budget, **{"gateway-0-8": 10})
    os.close(announce(tmp_path, "gateway-0-8"))
    write_journal(tmp_path, [usage(1, charges=(Charge(budget, 0, 4),))], writer="gateway-0-8")
    release_dead(tmp_path, store)
    assert state(store).lent == 10
    ledger = UsageStore(database, lambda segment, charges: store.settle(writer_of(segment), charges))
    Settler(tmp_path, ledger).fold()
    release_dead(tmp_path, store)
    assert (state(store).spent, state(store).lent) == (4, 0)
