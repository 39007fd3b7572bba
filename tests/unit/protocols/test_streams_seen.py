"""Streams are shown to those who look at requests: each once, with what became of it."""

from __future__ import annotations

from typing import Any

import pytest

from stream_bench import Bench, run

CHAT = {"model": "smol", "messages": [{"role": "user", "content": "«abcd»"}]}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_shown_with_its_tokens(stream: bool) -> None:
    async def scenario(bench: Bench) -> None:
        reply: Any = await bench.ask("/v1/chat/completions", **CHAT, stream=stream)
        if stream:
            async for _ in reply.chunks:
                pass
        [visit] = bench.visits
        [record] = bench.records
        assert (visit.request_id, visit.outcome, visit.endpoint, visit.tenant) == (
            record.request_id, "ok", "smol", "acme",
        )  # fmt: skip
        assert visit.output_tokens == record.quantities["output_tokens"] > 0
        assert visit.input_tokens == record.quantities["input_tokens"] > 0
        assert visit.digest == record.digest

    run(scenario)


def test_a_stream_that_is_cut_is_shown_once_as_cancelled() -> None:
    async def scenario(bench: Bench) -> None:
        long = {"model": "smol", "messages": [{"role": "user", "content": "«" + "long" * 40 + "»"}], "stream": True}
        reply: Any = await bench.ask("/v1/chat/completions", **long)
        async for _ in reply.chunks:
            break
        await reply.chunks.aclose()
        [visit] = bench.visits
        assert visit.outcome == "cancelled"

    run(scenario)


def test_what_is_refused_is_shown_once() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.ask("/v1/chat/completions", **{**CHAT, "model": "none"})
        await bench.ask("/v1/chat/completions", **CHAT, n="many")
        await bench.ask("/v1/chat/completions", key="wrong", **CHAT)
        said = [(visit.outcome, visit.endpoint, visit.tenant) for visit in bench.visits]
        assert said == [
            ("endpoint.not_found", "none", "acme"),
            ("request.parameter", "", "acme"),
            ("key.unknown", "", ""),
        ]
        assert bench.observed == []  # a name that anybody makes up is no label of a metric

    run(scenario)
