"""Watching long work: live bars on a terminal, plain lines in a pipe, silence for ``--json``.

Everything goes to standard error, so that standard output holds results only. A :class:`Board` is told of stages; which
kind is used is decided once, in :func:`board`. Leaving with Ctrl-C leaves the server's work going, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mofang.surface.cli import format, screen
from mofang.surface.cli.failures import Interrupted

if TYPE_CHECKING:
    from rich.progress import TaskID

    from mofang.base.domain.work import Job, JobEvent
    from mofang.surface.cli.session import Session

COUNTED = ("rows", "epoch", "trees", "bytes", "batches")  # what an event may count: gives the rate


class Board(Protocol):
    """Where progress is shown."""

    def show(self, stage: str, fraction: float, note: str = "", data: Mapping[str, Any] | None = None) -> None:
        """Show that ``stage`` is ``fraction`` (0..1) done; ``data`` may count things, for the rate."""
        ...


class Silence:
    """Shows nothing: a script asked for JSON."""

    def show(self, stage: str, fraction: float, note: str = "", data: Mapping[str, Any] | None = None) -> None:
        """Do nothing."""


class Lines:
    """One plain line for each new stage and each note, for pipes and logs."""

    def __init__(self) -> None:
        self._last = ("", "")

    def show(self, stage: str, fraction: float, note: str = "", data: Mapping[str, Any] | None = None) -> None:
        """Print a line if it says something the last one did not."""
        if (stage, note) != self._last and (note or stage != self._last[0]):
            screen.say(f"  {stage:<10} {fraction * 100:3.0f} %  {note}".rstrip(), err=True)
            self._last = (stage, note)


class Bars:
    """A live bar for each stage: how far, how fast, how much longer."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("  {task.description:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[note]}[/dim]"),
        )
        self.progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=8)
        self._stages: dict[str, tuple[TaskID, Pace]] = {}
        self._front: set[str] = set()

    def show(self, stage: str, fraction: float, note: str = "", data: Mapping[str, Any] | None = None) -> None:
        """Move the stage's bar; a stage that follows another completes the other's."""
        now = time.monotonic()
        if stage not in self._stages:
            for earlier, _ in self._stages.values():
                self.progress.update(earlier, completed=1.0)
            task = self.progress.add_task(stage, total=1.0, rate="", left="", note="")
            self._stages[stage] = (task, Pace(now, fraction, counted(data)[0]))
        task, pace = self._stages[stage]
        left, rate = pace.left(now, fraction), pace.rate(now, data)
        self.progress.update(task, completed=fraction, rate=rate, left=left, note=note.replace("[", r"\["))
        self._show_front(data)

    def _show_front(self, data: Mapping[str, Any] | None) -> None:
        """Print above the bars what is new on the front of a search."""
        lines = str((data or {}).get("front", "")).splitlines()
        for line in lines:
            if line not in self._front:
                self.progress.console.print(f"  {line}", markup=False, highlight=False)
        self._front.update(lines)


@dataclass(frozen=True, slots=True)
class Pace:
    """Where a stage was when it was first heard of; what came since gives its speed."""

    at: float  # seconds on any clock
    fraction: float
    count: float

    def left(self, now: float, fraction: float) -> str:
        """Say how much longer it takes, or how long it took."""
        seconds, done = now - self.at, fraction - self.fraction
        if fraction >= 1:
            return format.duration(seconds) if done > 0 else ""
        return f"{format.duration(seconds * (1 - fraction) / done)} left" if done > 0 else ""

    def rate(self, now: float, data: Mapping[str, Any] | None) -> str:
        """Say the rate of what ``data`` counts, if it counts something."""
        seconds, (count, unit) = now - self.at, counted(data)
        if not unit or count <= self.count or seconds <= 0:
            return ""
        per_second = (count - self.count) / seconds
        return f"{format.size(int(per_second))}/s" if unit == "bytes" else format.rate(per_second, unit)


def counted(data: Mapping[str, Any] | None) -> tuple[float, str]:
    """Return what an event counts, and the unit in the plural; 0 and "" if it counts nothing."""
    for name in COUNTED:
        if data and isinstance(data.get(name), (int, float)):
            return data[name], name if name.endswith("s") else f"{name}s"
    return 0, ""


@contextmanager
def board(session: Session) -> Iterator[Board]:
    """Yield the board that suits who watches."""
    if session.as_json:
        yield Silence()
    elif not session.is_live:
        yield Lines()
    else:
        bars = Bars()
        with bars.progress:
            yield bars


def follow_job(session: Session, job: str) -> Job:
    """Watch a job to its end and return it; raise the job's own error, or Interrupted at Ctrl-C."""

    def on_event(event: JobEvent) -> None:
        shown.show(event.stage, event.progress, event.message, event.data)

    watch, stop = f"`mofang jobs logs {job} --follow`", f"`mofang jobs cancel {job}` stops it"
    with goes_on(f"job {job}", watch, stop):
        if not session.as_json:
            screen.say(f"  job {job}: Ctrl-C leaves it going", err=True)
        with board(session) as shown:
            return session.client.jobs.wait(job, on_event)


@contextmanager
def goes_on(what: str, watch: str, stop: str) -> Iterator[None]:
    """Turn Ctrl-C into the news that ``what`` goes on, and how to watch or stop it."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"no longer watching; {what} goes on", f"{watch} watches it again, {stop}") from None
