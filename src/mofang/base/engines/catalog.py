"""Finds engines by name, and imports one only when a model asks for it.

Engines are entry points of the group ``mofang.engines``, so that a package can add one without a change here.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from mofang.base.domain.errors import EngineLoadFailed, EngineNotFound
from mofang.base.engines.base import Engine, EngineLoader, Options

GROUP = "mofang.engines"


def engine_names() -> list[str]:
    """Return the names of all installed engines, sorted."""
    return sorted(_entries())


def load_engine(name: str, folder: Path, options: Options | None = None) -> Engine:
    """Load the artifact in ``folder`` with the engine called ``name``. Raises EngineNotFound or EngineLoadFailed."""
    entry = _entries().get(name)
    if entry is None:
        raise EngineNotFound(f"no engine is called {name!r}", hint=f"installed are: {', '.join(engine_names())}")
    try:
        loader: EngineLoader = entry.load()
    except ImportError as error:
        raise EngineLoadFailed(f"engine {name!r} cannot be imported: {error}", hint="install its extra") from error
    return loader(folder, options or {})


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
