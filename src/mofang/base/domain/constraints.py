"""Which constraints on generated text are taken: those that any engine can keep to, quickly and with bounded memory.

An engine compiles a schema into a grammar inside a step, in which all streams wait; a nested repetition or a deep
schema makes that seconds. So what is taken is named here, and bounded. Pure; protocols call it before they ask.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from mofang.base.domain.errors import InvalidParameter
from mofang.base.domain.generation import Constraint

MOST_SCHEMA_BYTES = 16 << 10
_MOST_NODES = 400
_MOST_DEPTH = 12
_MOST_CHOICES = 256
_MOST_REPEATS = 512  # of characters or items
_MOST_PATTERN = 128
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_TITLES = frozenset({"title", "description", "default", "examples", "$schema", "$id", "$comment", "format", "strict",
                     "deprecated", "readOnly", "writeOnly"})  # fmt: skip
_PLAIN = frozenset({"type", "enum", "const", "properties", "required", "additionalProperties", "items", "prefixItems",
                    "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "minItems", "maxItems", "minLength",
                    "maxLength", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})  # fmt: skip
_COUNTED = frozenset({"minItems", "maxItems", "minLength", "maxLength"})
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def schema_constraint(parameter: str, schema: Mapping[str, Any]) -> Constraint:
    """Return the constraint of a JSON schema, checked; raise InvalidParameter, naming ``parameter`` and the place."""
    text = msgspec.json.encode(schema).decode()
    if len(text) > MOST_SCHEMA_BYTES:
        raise InvalidParameter.of(parameter, f"the schema has {len(text):,} bytes, over {MOST_SCHEMA_BYTES:,}")
    _Walk(parameter, schema).look(schema, "", 0)
    return Constraint("schema", text)


def regex_constraint(parameter: str, pattern: str) -> Constraint:
    """Return the constraint of a regular expression, checked; raise InvalidParameter."""
    _check_pattern(parameter, "the expression", pattern)
    return Constraint("regex", pattern)


class _Walk:
    """Looks at every part of a schema once."""

    def __init__(self, parameter: str, root: Mapping[str, Any]) -> None:
        self._parameter = parameter
        self._root = root
        self._nodes = 0

    def look(self, node: Any, path: str, depth: int) -> None:
        """Check ``node``, which is at ``path``."""
        if isinstance(node, bool):
            return
        if not isinstance(node, dict):
            raise self._wrong(path, f"a schema is an object, not {type(node).__name__}")
        self._nodes += 1
        if self._nodes > _MOST_NODES or depth > _MOST_DEPTH:
            raise self._wrong(path, f"the schema has over {_MOST_NODES} parts, or is over {_MOST_DEPTH} deep")
        for word, value in node.items():
            if word in _TITLES:
                continue
            if word not in _PLAIN:
                raise self._wrong(path, f"the keyword {word[:40]!r} is not known")
            self._look_at(word, value, f"{path}.{word}", depth)

    def _look_at(self, word: str, value: Any, path: str, depth: int) -> None:
        match word:
            case "type":
                kinds = value if isinstance(value, list) and value else [value]
                if unknown := [kind for kind in kinds if not isinstance(kind, str) or kind not in _TYPES]:
                    raise self._wrong(path, f"there is no type {unknown[0]!r}")
            case "properties" | "$defs" | "definitions":
                for name, child in self._named(value, path).items():
                    self.look(child, f"{path}.{name[:40]}", depth + 1)
            case "items" | "additionalProperties":
                self.look(value, path, depth + 1)
            case "anyOf" | "oneOf" | "allOf" | "prefixItems":
                for index, child in enumerate(self._listed(value, path)):
                    self.look(child, f"{path}[{index}]", depth + 1)
            case "enum":
                self._listed(value, path)
            case "required":
                if not all(isinstance(name, str) for name in self._listed(value, path, least=0)):
                    raise self._wrong(path, "it takes names")
            case "$ref":
                self._follow(value, path)
            case "pattern":
                _check_pattern(self._parameter, f"schema{path}", value)
            case _ if word in _COUNTED:
                if type(value) is not int or not 0 <= value <= _MOST_REPEATS:
                    raise self._wrong(path, f"it takes 0 to {_MOST_REPEATS}")
            case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
                if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 2**53:
                    raise self._wrong(path, "it takes a number")

    def _follow(self, value: Any, path: str) -> None:
        place: Any = self._root
        if not isinstance(value, str) or not value.startswith("#"):
            raise self._wrong(path, "only references inside the schema, such as '#/$defs/name', are followed")
        for part in filter(None, value[1:].split("/")):
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or set(place) == {"$ref"}:
            raise self._wrong(path, f"{value[:80]!r} leads to no schema")

    def _named(self, value: Any, path: str) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(path, "it takes schemas by name")
        return value

    def _listed(self, value: Any, path: str, least: int = 1) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= _MOST_CHOICES:
            raise self._wrong(path, f"it takes a list of {least} to {_MOST_CHOICES}")
        return value

    def _wrong(self, path: str, message: str) -> InvalidParameter:
        return InvalidParameter.of(self._parameter, f"schema{path[:200]}: {message}")


def _check_pattern(parameter: str, where: str, pattern: Any) -> None:
    """Take expressions that are short and repeat nothing often: a grammar writes its repetitions out."""
    if not isinstance(pattern, str) or not 0 < len(pattern) <= _MOST_PATTERN:
        raise InvalidParameter.of(parameter, f"{where}: an expression has 1 to {_MOST_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise InvalidParameter.of(parameter, f"{where}: no regular expression: {error}") from None
    if "(?" in pattern.replace("(?:", "") or re.search(r"\\[1-9bBAZ]", pattern):
        raise InvalidParameter.of(parameter, f"{where}: groups with '(?', back references and boundaries are not known")
    repeats = 1
    for least, most in _REPEAT.findall(pattern):
        repeats *= max(int(least), int(most or 0), 1)
    if repeats > _MOST_REPEATS:
        raise InvalidParameter.of(parameter, f"{where}: it repeats over {_MOST_REPEATS} times")
