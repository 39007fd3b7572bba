"""When a process that ended is started again: a pure decision, so that it can be read and tested as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WINDOW_SECONDS = 60.0
CRASH_LOOP = 5
_DELAYS = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0)

ProcessStatus = Literal["running", "stopping", "waiting", "exited"]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run: its unique name, what to execute, and whether to start it again when it ends.

    Of a ``nursery`` others are born; ``born_of`` names the one that may bear this process, which is told the last
    argument. Without it, or if it cannot, the process is started by what it executes.
    """

    name: str
    argv: tuple[str, ...]
    keep: bool = True
    nursery: bool = False
    born_of: str = ""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What became of a process. ``exits`` counts the ends within the last minute."""

    name: str
    status: ProcessStatus
    pid: int = 0
    exits: int = 0
    exit_code: int = 0  # of the last end; negative: the signal
    started_at: int = 0

    @property
    def looping(self) -> bool:
        """Whether it dies again and again."""
        return self.exits >= CRASH_LOOP


def recent(exits: Sequence[float], now: float, window_seconds: float = WINDOW_SECONDS) -> list[float]:
    """Return the ends (seconds on one clock) that still count."""
    return [at for at in exits if now - at < window_seconds]


def delay(exits: Sequence[float], now: float) -> float:
    """Return how many seconds to wait: none after a first end, longer the more often it died lately."""
    return _DELAYS[min(len(recent(exits, now)), len(_DELAYS)) - 1] if recent(exits, now) else 0.0


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
