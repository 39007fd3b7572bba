"""What one client sends to do harm is refused within a second, while another's stream goes on (A37)."""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import msgspec
import pytest

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


def chat(text: Any = "hello", **more: Any) -> bytes:
    return msgspec.json.encode({"model": "smol", "messages": [{"role": "user", "content": text}], **more})


def schema(**parts: Any) -> bytes:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": parts}})


def nested(levels: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": nested(levels - 1)}} if levels else {"type": "string"}


HOSTILE = {
    "a template that does not end": chat("loop"),
    "a template that fills memory": chat("fill"),
    "a template that looks for a way out": chat("escape"),
    "a prompt of 10 MB": chat("x" * (10 << 20)),
    "10 MB in short messages": msgspec.json.encode(
        {"model": "smol", "messages": [{"role": "user", "content": "x"}] * 300_000}
    ),
    "no UTF-8": chat("x").replace(b'"x"', b'"\xff\xfe"'),
    "half a character of UTF-16": chat("x").replace(b'"x"', b'"\\ud800"'),
    "a negative bound": chat(max_tokens=-1),
    "a bound beyond all numbers": chat().replace(b'"model"', b'"max_tokens": 1' + b"0" * 400 + b', "model"'),
    "a billion choices": chat(n=10**9),
    "a thousand stops": chat(stop=["x"] * 1000),
    "a picture": chat([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]),
    "a deep schema": schema(**nested(200)),
    "a wide schema": schema(type="object", properties={f"k{number}": {"type": "string"} for number in range(5000)}),
    "a schema that is itself": schema(**{"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}),
    "an expression that explodes": schema(type="string", pattern="(a{1,1000}){1,1000}"),
    "deep JSON": b'{"model": "smol", "messages": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_time_and_the_other_stream_goes_on(name: str) -> None:
    async def scenario(bench: Bench) -> None:
        story = asyncio.create_task(_told(bench))
        await bench.until(lambda: len(bench.engine.streams) == 1)
        began = time.perf_counter()
        reply = await bench.ask_raw("/v1/chat/completions", HOSTILE[name])
        assert time.perf_counter() - began < 1
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
