"""Text to Recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from mofang.make.recipe.spec import Recipe


def parse_recipe(text: str, filename: str, *, check_gate: Callable[[str], object] | None = None) -> Recipe:
    """Parse and check a whole recipe; raise InvalidRecipe naming line, key and the nearest valid word.

    ``filename`` is only named in messages. ``check_gate`` reads a gate and raises InvalidGate: the stage that knows
    gates comes later, so it is handed in.
    """
    raise NotImplementedError


def recipe_digest(text: str) -> str:
    """Return ``sha256:<hex>`` of the recipe's text."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe (TOML and JSON have the same shape)."""
    return msgspec.json.schema(Recipe)
