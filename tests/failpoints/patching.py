"""Changes a module of the product in the moment it is imported: for tests that plant a fault, which the product
knows nothing of."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any


class Patching(importlib.abc.MetaPathFinder):
    """Finds the modules of these names as ever, and calls ``patch`` with each once it is loaded."""

    def __init__(self, names: Collection[str], patch: Callable[[ModuleType], None]) -> None:
        self._names = names
        self._patch = patch

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._patch)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads as ``loader`` does, then patches."""

    def __init__(self, loader: Any, patch: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)
