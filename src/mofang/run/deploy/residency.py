"""Which models that are loaded on demand stay loaded: a pure decision, made when memory is short.

A model is the better to keep the shorter ago it was asked, and the less memory it holds: the one for which idle seconds
times bytes is largest goes first. With models alike this is least recently used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LEAST_IDLE_SECONDS = 2.0  # gateways say once a second who is asked


@dataclass(frozen=True, slots=True)
class Resident:
    """A loaded revision: its ``key``, what its workers hold, and when it was last asked."""

    key: str
    memory_bytes: int
    idle_seconds: float

    @property
    def burden(self) -> float:
        """How little is lost if it is unloaded."""
        return self.idle_seconds * self.memory_bytes


def evicted(residents: Iterable[Resident], most_bytes: int) -> list[str]:
    """Return the keys of those to unload so that the others hold at most ``most_bytes``.

    None of those that were asked a moment ago goes, even if too much stays then.
    """
    loaded = sorted(residents, key=lambda resident: resident.burden, reverse=True)
    excess = sum(resident.memory_bytes for resident in loaded) - most_bytes
    gone: list[str] = []
    for resident in loaded:
        if excess <= 0:
            break
        if resident.idle_seconds >= _LEAST_IDLE_SECONDS:
            gone.append(resident.key)
            excess -= resident.memory_bytes
    return gone
