"""Constraints on generated text: what is taken, and the bombs that are not (A37)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from mofang.base.domain.constraints import regex_constraint, schema_constraint
from mofang.base.domain.errors import InvalidParameter

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40, "description": "full"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", "b", None]},
        "tags": {"type": "array", "items": {"type": ["string", "null"]}, "maxItems": 5},
        "parent": {"$ref": "#/$defs/parent"},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"parent": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}},
}


def test_usual_schemas_pass_as_they_are() -> None:
    constraint = schema_constraint("response_format", PERSON)
    assert (constraint.kind, json.loads(constraint.text)) == ("schema", PERSON)
    assert regex_constraint("regex", r"\d{4}-\d{2}").kind == "regex"


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


def wide(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}}
    return schema


BOMBS: list[tuple[dict[str, Any], str]] = [
    ({"type": "nope"}, "type"),
    ({"type": []}, "type"),
    ({"typo": "string"}, "typo"),
    ({"properties": {"a": 3}}, "properties.a"),
    ({"anyOf": []}, "anyOf"),
    ({"enum": list(range(500))}, "enum"),
    ({"type": "string", "maxLength": 10**6}, "maxLength"),
    ({"type": "array", "minItems": 10**6}, "minItems"),
    ({"type": "array", "minItems": -1}, "minItems"),
    ({"type": "integer", "maximum": 10**400}, "maximum"),
    ({"type": "string", "pattern": "(a{1,1000}){1,1000}"}, "pattern"),
    ({"type": "string", "pattern": "(((("}, "pattern"),
    ({"type": "string", "pattern": "(?=a)b"}, "pattern"),
    ({"type": "string", "pattern": "a" * 1000}, "pattern"),
    ({"$ref": "https://example.com/schema"}, "ref"),
    ({"$ref": "#/$defs/none"}, "ref"),
    ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}, "ref"),
    (deep(40), "deep"),
    (wide(8), "parts"),
    ({"title": "x" * 20_000}, "bytes"),
]


@pytest.mark.parametrize(("schema", "told"), BOMBS)
def test_bombs_are_refused_at_once_with_their_place(schema: dict[str, Any], told: str) -> None:
    began = time.thread_time()
    with pytest.raises(InvalidParameter, match=told) as refused:
        schema_constraint("response_format.json_schema", schema)
    assert refused.value.message.startswith("response_format.json_schema: ")
    assert time.thread_time() - began < 0.5
