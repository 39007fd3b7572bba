"""Bodies that a client sends to ``/v1/chat/completions`` to do harm: each is to be refused within a second."""

from __future__ import annotations

import os
from typing import Any

import msgspec


def soon() -> float:
    """Return the seconds within which an answer has to come: one, or more where others use the machine, too."""
    return max(1.0, 2 * os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def chat(text: Any = "hello", **more: Any) -> bytes:
    return msgspec.json.encode({"model": "smol", "messages": [{"role": "user", "content": text}], **more})


def schema(**parts: Any) -> bytes:
    return chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": parts}})


def nested(levels: int) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": nested(levels - 1)}} if levels else {"type": "string"}


OF_TEMPLATES = {
    "a template that does not end": chat("loop"),
    "a template that fills memory": chat("fill"),
    "a template that looks for a way out": chat("escape"),
}
"""What does harm only where a chat template is made for it, as the one in the test is."""
HOSTILE = {
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
    "a schema of thousands of words": schema(enum=[f"word{number}" for number in range(5000)]),
    "deep JSON": b'{"model": "smol", "messages": ' + b"[" * 100_000,
}
