"""Finds engines by name, and imports one only when a model asks for it.

Engines are entry points of the group ``mofang.engines``, generative ones of ``mofang.generators``, so that a package
can add one without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mofang.base.domain.errors import EngineLoadFailed, EngineNotFound
from mofang.base.engines.base import (
    AdaptingLoader,
    Conversational,
    Engine,
    EngineLoader,
    GenerativeEngine,
    GenerativeLoader,
    Options,
)

ENGINES = "mofang.engines"
GENERATORS = "mofang.generators"


def engine_names() -> list[str]:
    """Return the names of all engines, sorted; those whose extra is not installed too."""
    return sorted(_entries(ENGINES))


def generator_names() -> list[str]:
    """Return the names of all generative engines, sorted; those whose extra is not installed too."""
    return sorted(_entries(GENERATORS))


def load_engine(name: str, folder: Path, options: Options | None = None) -> Engine:
    """Load the artifact in ``folder`` with the engine called ``name``. Raises EngineNotFound or EngineLoadFailed."""
    loader: EngineLoader = _loader(ENGINES, name)
    return loader(folder, options or {})


def load_generator(
    name: str, folder: Path, options: Options | None = None, adapters: Mapping[str, Path] = MappingProxyType({})
) -> GenerativeEngine | Conversational:
    """Load the artifact in ``folder`` with the generative engine called ``name``. Raises as :func:`load_engine`.

    ``adapters`` are for engines that take them (:mod:`.adapters`).
    """
    if adapters:
        adapting: AdaptingLoader = _loader(GENERATORS, name)
        return adapting(folder, options or {}, adapters)
    loader: GenerativeLoader = _loader(GENERATORS, name)
    return loader(folder, options or {})


def import_engine(name: str) -> None:
    """Import the engine called ``name``, so that loading need not. Raises as :func:`load_engine`."""
    _loader(ENGINES, name)


def _loader(group: str, name: str) -> Any:
    entry = _entries(group).get(name)
    if entry is None:
        raise EngineNotFound(
            f"no engine is called {name!r}", hint=f"installed are: {', '.join(sorted(_entries(group)))}"
        )
    try:
        return entry.load()
    except ImportError as error:
        raise EngineLoadFailed(f"engine {name!r} cannot be imported: {error}", hint="install its extra") from error


@cache  # an environment does not change under a running process
def _entries(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
