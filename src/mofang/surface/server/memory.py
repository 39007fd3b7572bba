"""How much memory a process holds for itself alone, as Linux counts it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FRESH_SECONDS = 10.0
_MOST_KNOWN = 4096


@dataclass(frozen=True, slots=True)
class _Counted:
    pages: int
    at: float
    held: int


class Memory:
    """Looks at processes again and again. The kernel counts for long what is shared, so that it is not asked anew each
    time: only if a process has grown or shrunk, or after a while."""

    def __init__(self) -> None:
        self._known: dict[int, _Counted] = {}

    def held(self, pid: int) -> int:
        """Return the bytes that would be free without the process; 0 if there is none of that number."""
        try:
            with open(f"/proc/{pid}/statm") as file:
                _, resident, shared = map(int, file.read().split()[:3])
        except (FileNotFoundError, ProcessLookupError, ValueError):
            self._known.pop(pid, None)
            return 0
        pages, now, known = resident - shared, time.monotonic(), self._known.get(pid)
        if known is None or known.pages != pages or now - known.at > _FRESH_SECONDS:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[pid] = _Counted(pages, now, min(_private(pid), pages * _PAGE))
        return known.held


def _private(pid: int) -> int:
    """Return what a process does not share, even with the one it was forked from; very much if nobody says."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_"))
    except OSError:
        return 1 << 62
