"""Spare workers: processes that have imported an engine and wait, so that a model loaded on demand loads at once.

The controller keeps them, while there is an endpoint that may need one and memory for it; the supervisor has one become
the next worker that is started for its engine (``spare.py`` is the process).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from mofang.base.domain.deployment import Revision
from mofang.base.domain.names import now_us
from mofang.surface.server.restarts import ProcessSpec, ProcessState

PREFIX = "spare/"
_LEAST_FREE_BYTES = 512 << 20  # of the machine's memory: with less there is none
_QUIET_US = 500_000  # a model that loads has the cores for itself for so long


class Spares:
    """``most`` are kept, of the engine that most endpoints loaded on demand compute with."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._offered: set[str] = set()

    def offer(self, worker: ProcessSpec, engine: str, states: Mapping[str, ProcessState]) -> ProcessSpec:
        """Return the worker, to be a spare of its engine if there is one nobody else was offered."""
        for name in sorted(states):
            if name.startswith(f"{PREFIX}{engine}/") and states[name].status == "running" and name not in self._offered:
                self._offered.add(name)
                return replace(worker, instead_of=name)
        return worker

    def missing(self, revisions: Iterable[Revision], states: Mapping[str, ProcessState]) -> list[ProcessSpec]:
        """Return the spares to start now: none right after a worker was started."""
        self._offered &= states.keys()
        wanted = self._wanted(revisions) - states.keys()
        if not wanted or _free_bytes() < _LEAST_FREE_BYTES:
            return []
        if any(now_us() - state.started_at < _QUIET_US for state in states.values()):
            return []
        return [_spare(name) for name in sorted(wanted)]

    def superfluous(self, revisions: Iterable[Revision], states: Mapping[str, ProcessState]) -> list[str]:
        """Return the names of spares to stop."""
        here = {name for name, state in states.items() if name.startswith(PREFIX) and state.status != "stopping"}
        return sorted(here - self._wanted(revisions)) if here else []

    def _wanted(self, revisions: Iterable[Revision]) -> set[str]:
        engines = Counter(revision.engine for revision in revisions if revision.limits.on_demand)
        if not engines:
            return set()
        (engine, _) = max(engines.items(), key=lambda item: (item[1], item[0]))
        return {f"{PREFIX}{engine}/{index}" for index in range(self._most)}


def _spare(name: str) -> ProcessSpec:
    engine = name.split("/")[1]
    return ProcessSpec(name, ("-m", "mofang.surface.server.spare", engine), spare=True)


def _free_bytes() -> int:
    """Return how much memory programs may still take; very much where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 1 << 62
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 1 << 62)
