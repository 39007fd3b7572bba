"""What tests that push files of large frameworks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.tensors import Array
from mofang.make.convert.toolchains import Toolchains

CHAINS = Toolchains(Path(__file__).parents[2] / ".cache" / "toolchains")
Push = Callable[..., tuple[ModelVersion, Callable[[dict[str, Array]], dict[str, Array]]]]
"""Pushes a file's bytes, or a folder, with wishes; returns the version, and what asks its engine."""


def contents(pushed: bytes | Path) -> dict[str, bytes]:
    """Return what is pushed by path: a file, or all of a folder."""
    if isinstance(pushed, bytes):
        return {"pushed": pushed}
    return {str(path.relative_to(pushed)): path.read_bytes() for path in pushed.rglob("*") if path.is_file()}
