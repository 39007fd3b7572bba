"""What language models do shows in the metrics: tokens, times, how full a replica is."""

from __future__ import annotations

import asyncio
import re

import pytest

from mofang.surface.server.lately import Pace, Talk
from mofang.surface.server.telemetry import exposition
from stream_bench import Bench, read, run

LONG = {"model": "smol", "prompt": "«" + "long" * 20 + "»", "max_tokens": 80}


def shown(bench: Bench) -> dict[str, float]:
    """Return every line of the metrics."""
    text = exposition([("g", bench.telemetry.counts(0, 0, {}, bench.fleet.occupancy()))], [])
    return {name: float(value) for name, value in re.findall(r"^(\w+\S*) (\S+)$", text, re.MULTILINE)}


def test_tokens_and_times_of_answers_are_counted() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask("/v1/completions", model="smol", prompt="«ab»", n=2)
        await bench.ask("/v1/completions", model="smol", prompt="«abc»")
        await bench.ask("/v1/completions", model="smol", prompt="«!»")  # says nothing
        found = shown(bench)
        place = 'gateway="g",endpoint="smol"'
        for kind, tokens in (("input", 4 + 5), ("output", 4 + 3), ("cached", 0)):
            assert found[f'gen_ai_client_token_usage_sum{{{place},gen_ai_token_type="{kind}"}}'] == tokens
        for name in (
            "gen_ai_server_time_to_first_token",
            "gen_ai_server_time_per_output_token",
            "mofang_generate_queue",
        ):
            assert found[f"{name}_seconds_count{{{place}}}"] == 2, name
        assert found[f"gen_ai_server_time_to_first_token_seconds_sum{{{place}}}"] > 0
        rate = f"mofang_generate_tokens_per_second{{{place},gen_ai_token_type="
        assert (found[rate + '"output"}'], found[rate + '"input"}']) == (0.7, 0.9)  # of the last ten seconds
        assert found[f"mofang_generate_cache_hit_ratio{{{place}}}"] == 0

    run(scenario)


def test_what_was_cached_is_told_metered_and_counted() -> None:
    async def scenario(bench: Bench) -> None:
        asked = {"model": "smol", "prompt": "Once upon a time «ab»"}
        tokens = len(asked["prompt"])
        for cached in (0, tokens - 1):
            usage = read(await bench.ask("/v1/completions", **asked))["usage"]
            assert usage["prompt_tokens"] == tokens
            assert usage["prompt_tokens_details"] == {"cached_tokens": cached}
        quantities = [record.quantities for record in bench.records]
        assert [each["input_tokens"] for each in quantities] == [tokens, 1]
        assert [each["cached_tokens"] for each in quantities] == [0, tokens - 1]
        place = 'gateway="g",endpoint="smol"'
        counted = [shown(bench)[f'gen_ai_client_token_usage_sum{{{place},gen_ai_token_type="{kind}"}}']
                   for kind in ("input", "cached")]  # fmt: skip
        assert counted == [2 * tokens, tokens - 1]
        share = shown(bench)[f"mofang_generate_cache_hit_ratio{{{place}}}"]
        assert share == pytest.approx((tokens - 1) / (2 * tokens), abs=1e-4)

    run(scenario, caching=True)


def test_tokens_a_second_show_while_an_answer_is_told_and_end_with_it() -> None:
    clock = [100.0]
    talk = Talk(lambda: clock[0])
    for quarter in range(40):
        clock[0] = 100 + quarter / 4
        talk.said(5)
    assert talk.pace == Pace(20.0, 0.0, None)
    talk.read(30, 10)
    clock[0] += 5
    assert talk.pace == Pace(10.0, 3.0, 1 / 3)
    clock[0] += 10
    assert talk.pace == Pace(0.0, 0.0, 1 / 3)  # of what the cache saves, a minute is told
    clock[0] += 60
    assert talk.pace == Pace(0.0, 0.0, None)

    async def scenario(bench: Bench) -> None:
        asking = asyncio.create_task(bench.ask("/v1/completions", **LONG))
        rate = 'mofang_generate_tokens_per_second{gateway="g",endpoint="smol",gen_ai_token_type="output"}'
        await bench.until(lambda: shown(bench).get(rate, 0.0) > 0)
        assert not asking.done()
        await asking

    run(scenario)


def test_how_full_a_replica_is_shows_while_it_is_and_ends() -> None:
    async def scenario(bench: Bench) -> None:
        place = '{gateway="g",endpoint="smol"}'
        asking = [asyncio.create_task(bench.ask("/v1/completions", **LONG)) for _ in range(5)]
        await bench.until(lambda: shown(bench)[f"mofang_generate_waiting{place}"] > 0)
        found = shown(bench)
        assert found[f"mofang_generate_running{place}"] == 2
        assert found[f"mofang_generate_cache_room_tokens{place}"] == 400
        assert found[f"mofang_generate_cache_tokens{place}"] >= 2 * 82
        await asyncio.gather(*asking)
        await bench.until(lambda: shown(bench)[f"mofang_generate_running{place}"] == 0)
        found = shown(bench)
        assert found[f"mofang_generate_waiting{place}"] == found[f"mofang_generate_cache_tokens{place}"] == 0

    run(scenario)
