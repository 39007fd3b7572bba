"""Nurseries: processes that have imported an engine, of which workers are born, so that a model loads at once.

The controller keeps one for an engine while there are endpoints loaded on demand that compute with it, and memory for
it; the supervisor has the workers of that engine born of it (``nursery.py`` is the process).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mofang.base.domain.deployment import Revision
from mofang.base.domain.names import now_us
from mofang.surface.server.restarts import ProcessSpec, ProcessState

PREFIX = "nursery/"
_FORKED = frozenset({"catboost", "encoder", "onnx", "sklearn", "vowpalwabbit", "whisper", "xgboost"})
"""Engines that compute after a fork. What a package adds may not: its workers begin from nothing."""
_LEAST_FREE_BYTES = 512 << 20  # of the machine's memory: with less there is none
_QUIET_US = 500_000  # a model that loads has the cores for itself for so long


class Nurseries:
    """``most`` are kept, of the engines that most endpoints loaded on demand compute with."""

    def __init__(self, most: int) -> None:
        self._most = most

    def missing(self, revisions: Iterable[Revision], states: Mapping[str, ProcessState]) -> list[ProcessSpec]:
        """Return the nurseries to start now: none right after a worker was started."""
        wanted = self._wanted(revisions) - states.keys()
        if not wanted or _free_bytes() < _LEAST_FREE_BYTES:
            return []
        if any(now_us() - state.started_at < _QUIET_US for state in states.values()):
            return []
        return [_nursery(name) for name in sorted(wanted)]

    def superfluous(self, revisions: Iterable[Revision], states: Mapping[str, ProcessState]) -> list[str]:
        """Return the names of nurseries to stop."""
        here = {name for name, state in states.items() if name.startswith(PREFIX) and state.status != "stopping"}
        return sorted(here - self._wanted(revisions)) if here else []

    def _wanted(self, revisions: Iterable[Revision]) -> set[str]:
        engines = Counter(each.engine for each in revisions if each.limits.on_demand and each.engine in _FORKED)
        most = sorted(engines, key=lambda engine: (-engines[engine], engine))[: self._most]
        return {PREFIX + engine for engine in most}


def born(worker: ProcessSpec, engine: str, states: Mapping[str, ProcessState]) -> ProcessSpec:
    """Return the worker, to be born of the nursery of its engine if there is one."""
    nursery = states.get(PREFIX + engine)
    return replace(worker, born_of=nursery.name) if nursery is not None and nursery.status == "running" else worker


def _nursery(name: str) -> ProcessSpec:
    engine = name.removeprefix(PREFIX)
    return ProcessSpec(name, ("-m", "mofang.surface.server.nursery", engine), nursery=True)


def _free_bytes() -> int:
    """Return how much memory programs may still take; very much where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 62
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 1 << 62)
