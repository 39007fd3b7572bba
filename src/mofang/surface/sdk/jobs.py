"""Jobs: watch long work, wait for it, cancel it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mofang.base.domain.errors import DeadlineExceeded, JobCancelled
from mofang.base.domain.work import JOB_ENDED, Job, JobEvent, JobState
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport, rebuild, segment

POLL_SECONDS = 20.0  # how long the server holds a question whose answer is "nothing new"


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a request that became a job."""

    job: str


@dataclass(frozen=True, slots=True)
class EventsPage:
    """Events after the one asked from, and the job's state after them."""

    items: list[JobEvent]
    state: JobState


class Jobs:
    """``client.jobs``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def get(self, job: str, *, wait_seconds: float = 0.0) -> Job:
        """Return a job; with ``wait_seconds`` the answer may take that long, until the job has ended."""
        return self._wire.get(f"/jobs/{segment(job)}", Job, wait_seconds=wait_seconds)

    def events(self, job: str, *, after: int = 0, wait_seconds: float = 0.0) -> EventsPage:
        """Return what happened after event ``after``; with ``wait_seconds`` it may wait for something new."""
        path = f"/jobs/{segment(job)}/events"
        return self._wire.get(path, EventsPage, {"after": after}, wait_seconds=wait_seconds)

    def follow(self, job: Job | str, *, timeout_seconds: float | None = None) -> Iterator[JobEvent]:
        """Yield every event of a job as it happens, until the job has ended.

        Raises DeadlineExceeded after ``timeout_seconds``: the job goes on then.
        """
        name, after, state = job if isinstance(job, str) else job.id, 0, ""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while state not in JOB_ENDED:
            left = POLL_SECONDS if deadline is None else min(POLL_SECONDS, deadline - time.monotonic())
            if left <= 0:
                hint = f"it goes on; look with `mofang runs list`, or cancel job {name}"
                raise DeadlineExceeded(f"job {name} has not ended after {timeout_seconds:g} s", hint=hint)
            page = self.events(name, after=after, wait_seconds=left)
            yield from page.items
            state = page.state
            after = page.items[-1].seq if page.items else after

    def wait(
        self,
        job: Job | str,
        on_event: Callable[[JobEvent], None] | None = None,
        *,
        timeout_seconds: float | None = None,
    ) -> Job:
        """Wait until a job has succeeded and return it, telling ``on_event`` of everything on the way.

        Raises the job's own error if it failed, JobCancelled if it was cancelled, and DeadlineExceeded after
        ``timeout_seconds``.
        """
        for event in self.follow(job, timeout_seconds=timeout_seconds):
            if on_event:
                on_event(event)
        return raise_for_state(self.get(job if isinstance(job, str) else job.id))

    def cancel(self, job: str) -> Job:
        """Ask a job to stop; raise JobEnded if it has ended."""
        return self._wire.call("POST", f"/jobs/{segment(job)}/cancel", Job)

    def list(self, *, kind: str | None = None, state: JobState | None = None, limit: int | None = 100) -> list[Job]:
        """Return the newest jobs first."""
        return [*walk(self._wire, "/jobs", Job, {"kind": kind, "state": state}, limit=limit)]


def raise_for_state(job: Job) -> Job:
    """Return ``job`` if it succeeded; raise its own error, or JobCancelled, otherwise."""
    if job.state == "failed":
        error = job.error
        message = str(error.get("message", f"job {job.id} failed"))
        raise rebuild(str(error.get("code", "job.failed")), message, error.get("hint"))
    if job.state == "cancelled":
        raise JobCancelled(f"job {job.id} was cancelled")
    return job
