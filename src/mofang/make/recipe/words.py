"""The words of complaints: what a key takes, what was found instead, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import inspect


def nearest(word: object, valid: Iterable[str]) -> str:
    """Return ``did you mean 'epochs'?``, or all valid words if none is near."""
    words = list(valid)
    close = difflib.get_close_matches(str(word), words, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid are {listed(words)}"


def listed(words: Iterable[str], joint: str = "or") -> str:
    """Return ``'a', 'b' or 'c'``."""
    *head, last = map(repr, words)
    return f"{', '.join(head)} {joint} {last}" if head else last


def shown(value: object) -> str:
    """Return the value as people would write it, cut to one line's worth."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def describe(section: type[msgspec.Struct], key: str) -> str:
    """Say what a key takes, e.g. ``an integer from 1 to 100000``."""
    info = inspect.type_info(section)
    fields = info.fields if isinstance(info, inspect.StructType) else ()
    return next(_describe(field.type) for field in fields if field.name == key)


def sections_of(section: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """Return the sections inside a section, by key."""
    info = inspect.type_info(section)
    fields = info.fields if isinstance(info, inspect.StructType) else ()
    return {field.name: field.type.cls for field in fields if isinstance(field.type, inspect.StructType)}


def _describe(kind: Any) -> str:
    match kind:
        case inspect.Metadata():
            return _describe(kind.type)
        case inspect.IntType():
            return "an integer" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.LiteralType():
            return listed(map(str, kind.values))
        case inspect.VarTupleType():
            most = kind.max_length or "any number"
            return f"a list of {kind.min_length or 0} to {most}, each {_describe(kind.item_type)}"
        case inspect.DictType():
            return f"a section of names, each {_describe(kind.value_type)}"
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)}, each {_describe(kind.item_types[0])}"
        case inspect.UnionType():
            return " or ".join(_describe(part) for part in kind.types)
        case _:
            return "a text"


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = f"from {kind.ge:g}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else ""
    high = f"to {_plain(kind.le)}" if kind.le is not None else ""
    return "".join(f" {part}" for part in (low, high) if part)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"
