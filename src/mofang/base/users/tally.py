"""Failed sign-ins, summed up: what is to be written down of them is bounded, however many there are.

The first failure of a kind (which name, which way, from where) is told at once, all others of it as one number when the
window ends. A window knows so many kinds; whatever else comes is one kind more, of no name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

WINDOW_SECONDS = 600.0
KINDS = 20


@dataclass(frozen=True, slots=True)
class Failures:
    """So many failed sign-ins under a name, in one way, from one address. All empty: of many names."""

    name: str
    way: str
    address: str
    count: int = 1


class Tally:
    """Counts in windows. A window yields at most twice :data:`KINDS` and one of Failures."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = clock()
        self._kinds: dict[tuple[str, str, str], int] = {}  # those that are not told yet
        self._others = 0

    def add(self, name: str, way: str, address: str) -> Failures | None:
        """Count a failure; return what is to be written down at once, if anything."""
        kind = (name, way, address)
        with self._lock:
            if kind in self._kinds:
                self._kinds[kind] += 1
            elif len(self._kinds) < KINDS:
                self._kinds[kind] = 0
                return Failures(*kind)
            else:
                self._others += 1
        return None

    def take(self, *, early: bool = False) -> list[Failures]:
        """Return what was not told of the window, if it has ended (or ``early``), and begin the next one."""
        with self._lock:
            if not early and self._clock() - self._since < WINDOW_SECONDS:
                return []
            found = [replace(Failures(*kind), count=count) for kind, count in self._kinds.items() if count]
            if self._others:
                found.append(Failures("", "", "", self._others))
            self._since, self._kinds, self._others = self._clock(), {}, 0
        return found
