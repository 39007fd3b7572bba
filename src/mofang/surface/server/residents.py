"""Models loaded on demand, as the controller knows them: who is awake, who was asked when, and who has to go.

``floor`` asks which revisions to leave out of those that are to run; gateways' words say what was asked. Few load at
once: many that were asked in the same moment would load late, all of them, and take memory before others gave it back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from mofang.base.domain.deployment import Revision
from mofang.base.domain.names import now_us
from mofang.run.deploy.residency import Resident, evicted
from mofang.surface.server.link import Word
from mofang.surface.server.memory import Memory
from mofang.surface.server.restarts import ProcessState

_LOADING_US = 10_000_000


class Residents:
    """``most_bytes`` is what all replicas loaded on demand may hold together."""

    def __init__(self, most_bytes: int, at_once: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._at_once = at_once or max(2, len(os.sched_getaffinity(0)))
        self._awake: dict[str, float] = {}  # revision to when it was last asked, on time.monotonic(); as they came
        self._sent_away: dict[str, float] = {}
        self._known_running = False
        self._memory = Memory()

    def held(self, state: ProcessState) -> int:
        """Return the bytes that a process holds for itself alone."""
        return self._memory.held(state.pid) if state.pid else 0

    def asleep(
        self,
        revisions: Iterable[Revision],
        loading: set[str],
        words: Mapping[str, Word],
        workers: Callable[[Revision], Sequence[ProcessState]],
        others_bytes: int = 0,
    ) -> set[str]:
        """Return the keys of revisions that need no worker now; those ``loading`` (rolled out just now) do.

        ``others_bytes`` are held by processes that count as well: nurseries.
        """
        now = time.monotonic()
        on_demand = {each.key: each for each in revisions if each.limits.on_demand}
        if not self._known_running:  # a controller that has come back finds who is awake
            self._known_running = True
            self._awake |= {key: now for key, revision in on_demand.items() if workers(revision)}
        self._awake |= dict.fromkeys(loading & on_demand.keys(), now)
        for word in words.values():
            for key, at in word.report.asked.items():
                if key in on_demand and at > self._sent_away.get(key, 0.0):
                    self._awake[key] = max(at, self._awake.get(key, 0.0))
        self._awake = {key: at for key, at in self._awake.items() if key in on_demand}
        self._sent_away = {key: at for key, at in self._sent_away.items() if key in on_demand}
        held = [
            Resident(key, sum(self.held(state) for state in workers(on_demand[key])), now - at)
            for key, at in self._awake.items()
            if key not in loading
        ]
        for key in evicted(held, self._most_bytes - others_bytes):
            del self._awake[key]
            self._sent_away[key] = now
        waiting = {key for word in words.values() for key in word.report.waiting}
        running = {key: states for key in self._awake if (states := workers(on_demand[key]))}
        busy = sum(key in waiting and _young(states) for key, states in running.items())
        coming = [key for key in self._awake if key not in running and key not in loading]
        return (on_demand.keys() - self._awake.keys()) | {*coming[max(0, self._at_once - busy) :]}


def _young(states: Sequence[ProcessState]) -> bool:
    """Tell whether a worker may still be loading; one that takes longer must not keep others from it."""
    return any(now_us() - state.started_at < _LOADING_US for state in states)
