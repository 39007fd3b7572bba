"""The page on protocols names every call, path and limit that the code has."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from mofang.surface.server.exchange import Limits
from mofang.surface.wire import health_pb2, inference_pb2, reflection_pb2

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "protocols.md").read_text()
INSIDE = {"linger_seconds", "half_close_seconds", "sweep_seconds"}  # told in words, if at all


@pytest.mark.parametrize("module", [health_pb2, inference_pb2, reflection_pb2])
def test_every_call_is_named(module: object) -> None:
    for service in module.DESCRIPTOR.services_by_name.values():  # type: ignore[attr-defined]
        assert f"`{service.full_name}`" in PAGE
        for method in service.methods:
            assert f"`{method.name}`" in PAGE, method.full_name


def test_every_limit_is_named_with_its_default() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for each in fields(Limits):
        if each.name in INSIDE:
            continue
        row = next((row for row in rows if f"`{each.name}`" in row), "")
        assert row, each.name
        assert _written(each.name, each.default) in row, (each.name, row)


def _written(name: str, value: object) -> str:
    assert isinstance(value, int | float)
    if name.endswith("bytes") or name == "body_rate":
        return f"{int(value) >> 20} MiB" if value >= 1 << 20 else f"{int(value) >> 10} KiB"
    if name == "age_seconds":
        return "an hour" if value == 3600 else "?"
    return f"{value:g} s" if name.endswith("seconds") else f"{value:,}"
