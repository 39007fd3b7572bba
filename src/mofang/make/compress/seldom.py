"""Progress of parts that are many or long: passed on seldom, and ended when time is up."""

from __future__ import annotations

import time

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.work import Progress

_SECONDS = 10.0


class Seldom:
    """Tells what techniques and measurements say at most every few seconds: more would bury the rest.

    That is often enough to hear that somebody cancelled.
    """

    def __init__(self, progress: Progress, seconds: float = _SECONDS) -> None:
        self._progress = progress
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Pass it on, if it is time; raise what the Progress behind raises."""
        if time.monotonic() >= self._due:
            self._progress.report(stage, fraction, message, **data)
            self._due = time.monotonic() + self._seconds


class Limited:
    """Ends what reports to it, with NoVariant, once ``until`` has passed by the monotonic clock."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.until = float("inf")

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Pass it on, if there is time left; raise NoVariant if there is none."""
        if time.monotonic() > self.until:
            raise NoVariant("the time of the search was up before it was made", hint="allow more with `--time`")
        self._progress.report(stage, fraction, message, **data)
