"""Purses of two gateways and a lender between them: requests that hold, wait, are charged, cancelled or refused."""

from __future__ import annotations

import asyncio
import time

import pytest

from mofang.base.domain.access import Principal
from mofang.base.domain.budget import Tariff
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import BudgetExhausted, BudgetUnconfirmed, MofangError, QuotaExhausted
from mofang.base.domain.tensors import Signature
from mofang.base.storage.database import Database
from mofang.run.serve.admitting import Admitted
from mofang.sell.budget.lender import Lender
from mofang.sell.budget.purse import Purse
from towns import Town, run

ROUTE = Route(Revision("digits", 1, "digits", 1, "sha256:1", "onnx", Signature((), ())), ())
ADA = Principal("ada", "acme", "shop", "consumer")


async def hold(purse: Purse, rows: int = 1, seconds: float = 10.0) -> Admitted:
    """Admit a request, waiting if it has to."""
    held = purse.admit(ADA, ROUTE, rows, 10)
    if held.pending:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(error: MofangError | None) -> None:
            told.set_exception(error) if error is not None else told.set_result(None)

        held.wait(time.monotonic() + seconds, tell)
        try:
            await told
        except MofangError:
            held.release()
            raise
    return held


async def ask(purse: Purse, rows: int = 1, **used: int) -> None:
    """Have a request answered and recorded."""
    held = await hold(purse, rows)
    held.charge({"requests": 1, "rows": rows, **used})
    held.release()


def test_what_is_cancelled_or_not_on_record_costs_nothing(database: Database) -> None:
    async def scenario(town: Town) -> None:
        town.store.put("project", "shop", "requests", "total", 2)
        town.publish()
        purse = town.open("a")
        first, second = await hold(purse), await hold(purse)
        with pytest.raises(QuotaExhausted):
            await ask(purse)
        first.release()
        await ask(purse)
        second.charge({"requests": 1})
        second.refund()
        second.release()
        await ask(purse)
        await asyncio.sleep(0.3)
        with pytest.raises(QuotaExhausted, match="2 requests in all is used up"):
            await ask(purse)

    run(database, scenario)


def test_a_request_that_waits_goes_on_when_another_ends(database: Database) -> None:
    async def scenario(town: Town) -> None:
        town.store.put("project", "shop", "rows", "total", 10)
        town.publish()
        a, b = town.open("a"), town.open("b")
        await ask(a, rows=2)
        await ask(b, rows=7)  # some of it lay with a
        await ask(a, rows=1)
        for purse in (a, b):
            with pytest.raises(QuotaExhausted):
                await ask(purse, rows=1)

    run(database, scenario)


def test_what_nobody_uses_goes_back(database: Database) -> None:
    async def scenario(town: Town) -> None:
        town.store.put("project", "shop", "requests", "total", 100)
        town.publish()
        await ask(town.open("a"))
        assert town.lent() > 1
        while town.lent() != 1:  # what is charged is lent until it is folded
            town.word("a")
            await asyncio.sleep(0.01)

    run(database, scenario)


def test_without_a_controller_a_slice_goes_on_and_then_requests_are_told_so(database: Database) -> None:
    async def scenario(town: Town) -> None:
        town.store.put("project", "shop", "requests", "total", 100)
        town.publish()
        purse = town.open("a")
        await ask(purse)
        town.connected.clear()
        purse.wait_seconds = 0.05
        while purse.admit(ADA, ROUTE, 1, 10).pending is False:
            pass
        with pytest.raises(BudgetUnconfirmed):
            await ask(purse)
        town.connected.add("a")
        town.word("a", first=True)
        purse.wait_seconds = 10.0
        await ask(purse)

    run(database, scenario)


def test_an_answer_dearer_than_expected_is_charged_what_is_left(database: Database) -> None:
    tariffs = {"acme digits/1": Tariff("EUR", {"requests": (100, 1), "compute_us": (1, 10)})}

    async def scenario(town: Town) -> None:
        town.store.put("tenant", "acme", "EUR", "total", 1000)
        town.publish()
        purse = town.open("a")
        held = await hold(purse)
        quantities = {"requests": 1, "compute_us": 50_000}
        ((_, _, charged),) = held.charge(quantities)
        held.release()
        assert charged <= 1000
        assert charged == 100 + -(-quantities["compute_us"] // 10)
        assert 1000 <= quantities["compute_us"] <= 9000
        with pytest.raises(BudgetExhausted, match=r"0\.001 EUR in all is used up"):
            await ask(purse)

    run(database, scenario, tariffs)


def test_the_lender_may_forget_everything(database: Database) -> None:
    async def scenario(town: Town) -> None:
        town.store.put("project", "shop", "requests", "total", 50)
        town.publish()
        purse = town.open("a")
        for _ in range(10):
            await ask(purse)
        town.lender = Lender(town.store, lambda holder, leases: town.purses[holder].hear(leases))
        lending = asyncio.create_task(town.lender.run())
        town.word("a", first=True)
        for _ in range(40):
            await ask(purse)
        with pytest.raises(QuotaExhausted):
            await ask(purse)
        lending.cancel()

    run(database, scenario)
