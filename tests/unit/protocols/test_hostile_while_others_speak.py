"""What one client sends to do harm is refused within a second, while another's stream goes on (A37)."""

from __future__ import annotations

import asyncio
import resource
import time

import msgspec
import pytest

from hostile_questions import HOSTILE, OF_TEMPLATES, soon
from stream_bench import Bench, events, run

TEMPLATE = (
    "{% set text = messages[0].content %}"
    "{% if text == 'loop' %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    "{% elif text == 'fill' %}{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x }}"
    "{% elif text == 'escape' %}{{ ''.__class__.__mro__ }}"
    "{% else %}{{ text }}{% endif %}"
)
STORY = "«" + "word " * 200 + "»"


@pytest.mark.parametrize("name", [*OF_TEMPLATES, *HOSTILE])
def test_it_is_refused_in_time_and_the_other_stream_goes_on(name: str) -> None:
    async def scenario(bench: Bench) -> None:
        story = asyncio.create_task(_told(bench))
        await bench.until(lambda: len(bench.engine.streams) == 1)
        began = time.perf_counter()
        reply = await bench.ask_raw("/v1/chat/completions", ({**OF_TEMPLATES, **HOSTILE})[name])
        assert time.perf_counter() - began < soon()
        assert 400 <= reply.status < 500
        assert msgspec.json.decode(reply.body)["error"]["type"] == "invalid_request_error"
        assert await story == STORY[1:-1]
        assert [record.quantities["output_tokens"] for record in bench.records] == [len(STORY) - 2]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(scenario, template=TEMPLATE, context=10_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10


async def _told(bench: Bench) -> str:
    reply = await bench.ask("/v1/completions", model="smol", prompt=STORY, max_tokens=5000, stream=True)
    return "".join(each["choices"][0]["text"] for each in (await events(reply))[:-1])
