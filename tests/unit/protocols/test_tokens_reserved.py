"""Budgets and language models: a request holds its prompt, exactly, and the most it may say, before it is computed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mofang.base.domain.budget import Tariff
from mofang.base.domain.names import now_us
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.deputies import word
from mofang.base.storage.database import Database
from stream_bench import KEY, Bench, events, read, run
from towns import Town

PRICES = {"input_tokens": (10, 1), "output_tokens": (100, 1), "batch_output_tokens": (50, 1)}
TARIFF = {"acme smol/1": Tariff("EUR", PRICES)}


def on(database: Database, scenario: Callable[[Bench, Town], Awaitable[None]], unit: str, amount: int) -> None:
    """Run ``scenario`` with a budget of ``amount`` of ``unit`` for the project."""

    async def live(bench: Bench) -> None:
        town = Town(database, TARIFF)
        lending = asyncio.create_task(town.lender.run())
        town.store.put("project", "shop", unit, "total", amount)
        town.publish()
        bench.generator._admit = town.open("g").admit
        try:
            await scenario(bench, town)
        finally:
            lending.cancel()

    run(live)


def counted(record: UsageRecord) -> tuple[int, int]:
    return record.quantities["input_tokens"], record.quantities["output_tokens"]


def test_a_request_is_computed_only_if_the_most_it_may_say_can_be_paid(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        prompt = "x" * 20
        refused = await bench.ask("/v1/completions", model="smol", prompt=prompt, max_tokens=9)
        error = read(refused)["error"]
        assert (refused.status, error["code"]) == (402, "budget.exhausted")
        assert "it reads 20 tokens and may write 9" in error["message"]
        assert bench.engine.added == []
        assert (await bench.ask("/v1/completions", model="smol", prompt=prompt, max_tokens=8)).status == 200
        assert counted(bench.records[0]) == (20, 8)
        assert sum(charge.amount for charge in bench.records[0].charges) == 20 * 10 + 8 * 100
        assert (await bench.ask("/v1/completions", model="smol", prompt="y", max_tokens=1)).status == 402
        assert bench.engine.added == [prompt]

    on(database, scenario, "EUR", 1000)


def test_what_was_held_and_not_said_is_free_again(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        for _ in range(5):
            answer = await bench.ask("/v1/completions", model="smol", prompt="0123456789«ab»", max_tokens=40)
            assert answer.status == 200, read(answer)
        assert [counted(record) for record in bench.records] == [(14, 2)] * 5
        assert (await bench.ask("/v1/completions", model="smol", prompt="q«ab»", max_tokens=41)).status == 429

    on(database, scenario, "output_tokens", 50)


def test_requests_at_once_never_overspend_a_quota_of_tokens(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        asked = [bench.ask("/v1/completions", model="smol", prompt="z" * 10, max_tokens=10) for _ in range(12)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status for answer in answers) == [200] * 5 + [429] * 7
        assert sum(record.quantities["output_tokens"] for record in bench.records) == 50

    on(database, scenario, "output_tokens", 50)


def test_every_choice_is_held_and_the_prompt_once(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        more = {"model": "smol", "prompt": "w" * 10, "n": 3}
        assert (await bench.ask("/v1/completions", max_tokens=4, **more)).status == 402
        reply = await bench.ask("/v1/completions", max_tokens=3, stream=True, **more)
        await events(reply)
        assert counted(bench.records[0]) == (10, 9)

    on(database, scenario, "EUR", 10 * 10 + 9 * 100)


def test_nothing_stays_held_of_a_request_that_was_cancelled_or_refused(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        for _ in range(3):
            reply = await bench.ask("/v1/completions", model="smol", prompt="long " * 20, max_tokens=50, stream=True)
            await anext(reply.chunks)
            await reply.chunks.aclose()
            too_long = await bench.ask("/v1/completions", model="smol", prompt="l" * 300, max_tokens=1)
            assert too_long.status == 400
        (account,) = town.purses["g"].accounts().items
        assert account.reserved == 0
        await bench.drain()  # a worker that stops does not wait for what is gone

    on(database, scenario, "output_tokens", 1000)


def test_a_batch_holds_and_pays_its_own_price(database: Database) -> None:
    async def scenario(bench: Bench, town: Town) -> None:
        prompt = "x" * 20
        batch = word(bench.deputies, KEY.id, now_us() + 60_000_000)
        asked = {"model": "smol", "prompt": prompt, "max_tokens": 16}
        assert (await bench.ask("/v1/completions", **asked)).status == 402
        assert (await bench.ask("/v1/completions", key=batch, **asked)).status == 200
        [record] = bench.records
        assert {"batch_input_tokens": 20, "batch_output_tokens": 16, "batch_requests": 1}.items() <= (
            record.quantities.items()
        )
        assert not record.quantities.keys() & {"requests", "input_tokens", "output_tokens"}
        assert [charge.amount for charge in record.charges] == [20 * 10 + 16 * 50]

    on(database, scenario, "EUR", 1000)
