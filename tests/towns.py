"""A lender of budgets, the purses of some gateways, and the wire between them, in one event loop; for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mofang.base.domain.budget import Tariff
from mofang.base.domain.deployment import Snapshot
from mofang.base.storage.database import Database
from mofang.run.serve.admitting import admit_by_role
from mofang.sell.budget.lender import Lender
from mofang.sell.budget.purse import Purse
from mofang.sell.budget.store import BudgetStore


class Town:
    """A lender, purses, and the wire between them."""

    def __init__(self, database: Database, tariffs: Mapping[str, Tariff]) -> None:
        self.store = BudgetStore(database)
        self.purses: dict[str, Purse] = {}
        self.connected: set[str] = set()
        self.lender = Lender(self.store, lambda holder, leases: self.purses[holder].hear(leases))
        self.tariffs = tariffs
        self.snapshot = Snapshot(1, {}, {})

    def publish(self) -> None:
        number, budgets = self.snapshot.number + 1, tuple(self.store.list())
        self.snapshot = Snapshot(number, {}, {}, budgets=budgets, tariffs=self.tariffs)

    def open(self, name: str, connected: bool = True) -> Purse:
        def tell() -> None:
            asyncio.get_running_loop().call_soon(self.word, name)

        self.purses[name] = Purse(admit_by_role, lambda: self.snapshot, name, tell)
        if connected:
            self.connected.add(name)
            self.word(name, first=True)
        return self.purses[name]

    def word(self, name: str, first: bool = False) -> None:
        if name in self.connected:
            self.lender.heard(self.purses[name].accounts(), first=first)

    def lent(self) -> int:
        return sum(state.lent for state in self.store.states(0))


def run(
    database: Database, scenario: Callable[[Town], Awaitable[None]], tariffs: Mapping[str, Tariff] | None = None
) -> None:
    async def live() -> None:
        town = Town(database, tariffs or {})
        lending = asyncio.create_task(town.lender.run())
        try:
            async with asyncio.timeout(20):
                await scenario(town)
        finally:
            lending.cancel()

    asyncio.run(live())
