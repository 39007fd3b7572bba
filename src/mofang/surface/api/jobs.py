"""Jobs: watch long work, cancel it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from mofang.base.domain.work import JOB_ENDED, Job, JobEvent, JobState
from mofang.base.jobs.store import JobStore
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes, Owned
from mofang.surface.api.fields import AfterNumber, Id, JobKind, Limit, Page, Wait
from mofang.surface.api.watching import events, watch

LastEvent = Annotated[int | None, Header(ge=0, le=2**53, description="id of the last event that was received")]


class EventStream(StreamingResponse):
    """Server-sent events."""

    media_type = "text/event-stream"


class Events(BaseModel):
    """Events of a job after the one asked from, and the state it has; all of an ended job's are there."""

    items: list[JobEvent]
    state: JobState


class Jobs:
    """The routes of jobs."""

    def __init__(self, jobs: JobStore, changes: Changes) -> None:
        self._jobs = jobs
        self._changes = changes

    def list_jobs(self, kind: JobKind = None, state: JobState | None = None, limit: Limit = 100) -> Page[Job]:
        """List jobs, newest first."""
        return Page(items=list(self._jobs.list(kind, state, limit)))

    async def get_job(self, request: Request, job: Id, wait: Wait = 0) -> Job:
        """Return a job; with ``wait``, when it has ended or that many seconds are over."""
        return await watch(request, lambda: self._jobs.get(job), lambda found: found.state in JOB_ENDED, wait)

    async def list_job_events(self, request: Request, job: Id, after: AfterNumber = 0, wait: Wait = 0) -> Events:
        """List what a job told after event ``after``; with ``wait``, as soon as there is news."""

        def read() -> Events:
            state = self._jobs.get(job).state  # before the events: an ended job tells nothing more
            return Events(items=list(self._jobs.events(job, after)), state=state)

        return await watch(request, read, lambda found: bool(found.items) or found.state in JOB_ENDED, wait)

    async def stream_job_events(
        self, request: Request, job: Id, after: AfterNumber = 0, last_event_id: LastEvent = None
    ) -> EventStream:
        """Stream what a job tells after event ``after``, or after ``Last-Event-ID``, as server-sent events."""
        await run_in_threadpool(self._jobs.get, job)  # what is not there is told before the stream begins
        last = after if last_event_id is None else last_event_id

        def read() -> list[JobEvent]:
            nonlocal last
            found = list(self._jobs.events(job, last))
            last = found[-1].seq if found else last
            return found

        told = events(request, read, lambda: self._jobs.get(job).state in JOB_ENDED)
        return EventStream(told)

    def cancel_job(self, job: Id, who: Caller) -> Job:
        """Ask a job to stop."""
        with self._changes.record(who, "job.cancel", job, of=Owned("job", job), before=None) as entry:
            entry.before = _told(self._jobs.get(job))
            found = self._jobs.request_cancel(job)
            entry.after = _told(found)
        return found


def _told(job: Job) -> dict[str, object]:
    return {"state": job.state, "cancel_requested": job.cancel_requested}


def router(jobs: JobStore, changes: Changes) -> APIRouter:
    """Make the router of jobs."""
    api = Jobs(jobs, changes)
    return table(
        "jobs",
        Route("GET", "/jobs", "read", api.list_jobs),
        Route("GET", "/jobs/{job}", "read", api.get_job),
        Route("GET", "/jobs/{job}/events", "read", api.list_job_events),
        Route("GET", "/jobs/{job}/stream", "read", api.stream_job_events, options={"response_class": EventStream}),
        Route("POST", "/jobs/{job}/cancel", "make", api.cancel_job),
    )
