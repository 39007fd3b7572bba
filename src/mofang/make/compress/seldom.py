"""A Progress that passes on only what comes long after the last: enough to hear that somebody cancelled."""

from __future__ import annotations

import time

from mofang.base.domain.work import Progress

_SECONDS = 10.0


class Seldom:
    """Tells what techniques and measurements say at most every few seconds: more would bury the rest."""

    def __init__(self, progress: Progress, seconds: float = _SECONDS) -> None:
        self._progress = progress
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Pass it on, if it is time; raise what the Progress behind raises."""
        if time.monotonic() >= self._due:
            self._progress.report(stage, fraction, message, **data)
            self._due = time.monotonic() + self._seconds
