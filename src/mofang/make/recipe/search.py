"""[search]: which values of [train] are tried, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from mofang.make.recipe.algorithms import Train
from mofang.make.recipe.words import describe, nearest, shown

_RANGE = ("low", "high", "log")


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[search]: many trainings with other values of [train]; the one with the lowest loss is kept. Needs `search`.

    The loss is that of the validation rows. Trials that are clearly worse than others are given up early.
    """

    trials: Annotated[int, Meta(ge=1, le=10_000, description="trainings, at most")] = 20
    minutes: Annotated[float, Meta(ge=0, le=100_000, description="begin no other trial after so long; 0: any")] = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="the same seed tries the same values")] = 0
    space: Annotated[
        dict[str, Any],
        Meta(
            description="keys of [train]: a list of values to choose from, or { low, high, log }, e.g."
            " learning_rate = { low = 1e-4, high = 0.1, log = true }"
        ),
    ] = msgspec.field(default_factory=dict)


def misfit(space: Mapping[str, Any], table: Mapping[str, Any], kind: type[Train]) -> tuple[str, str] | None:
    """Name a key of ``space`` that cannot be tried in ``table``, a [train] of ``kind``, and say why; else None."""
    for key, values in space.items():
        if kind.runs_code:
            return key, "cannot be searched: a function of your own has no keys"
        if key not in kind.__struct_fields__:
            return key, f"is no key of algorithm {table['algorithm']!r}; {nearest(key, kind.__struct_fields__)}"
        problem = _form(values)
        if problem:
            return key, problem
        for value in _candidates(kind, key, values):
            try:
                msgspec.convert({**table, key: value}, kind)
            except msgspec.ValidationError:
                return key, f"must be {describe(kind, key)}, got {shown(value)}"
    return None


def is_whole(kind: type[Train], key: str) -> bool:
    """Tell whether ``key`` of [train] takes whole numbers only."""
    default = next(field.default for field in msgspec.structs.fields(kind) if field.name == key)
    return isinstance(default, int) and not isinstance(default, bool)


def _form(values: Any) -> str:
    """Say what is wrong with how a range or a list is written."""
    if isinstance(values, list):
        return "" if values else "has no value to try"
    if not isinstance(values, dict) or not {"low", "high"} <= set(values) <= set(_RANGE):
        return f"must be a list of values, or {{ low = ..., high = ..., log = true }}, got {shown(values)}"
    low, high = values["low"], values["high"]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (low, high))
    if not numbers or not low < high or not isinstance(values.get("log", False), bool):
        return f"must have numbers low < high, got {shown(values)}"
    return "must have low above 0, since log is true" if values.get("log") and low <= 0 else ""


def _candidates(kind: type[Train], key: str, values: Any) -> Iterator[Any]:
    if isinstance(values, list):
        yield from values
    else:
        yield from (values["low"], values["high"])
