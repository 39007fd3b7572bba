"""Jobs as tables: submitted by the control plane, claimed by a worker under a lease, told in events.

A worker holds a job only as long as it keeps its lease: every change it makes names the lease's token, so that one
that was thought dead cannot overwrite what its successor does. A lease has no time of day at which it ends: the worker
counts up, and who watches (:mod:`.vigil`) sees that it does. Cancelling asks; the worker hears it with its next
report or heartbeat.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    Row,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from mofang.base.domain.access import EVERYTHING, Scope
from mofang.base.domain.errors import JobCancelled, JobEnded, JobFailed, JobNotFound, LeaseLost
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.work import JOB_ENDED, Job, JobEvent, JobState
from mofang.base.jobs.vigil import Pulse
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import claim, owner, visible

MAX_ATTEMPTS = 3
"""How often a job is begun before it counts as one that kills its workers."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("progress", Float, nullable=False),
    Column("stage", Text, nullable=False),
    Column("result", JSON, nullable=False),
    Column("error", JSON, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("worker", Text, nullable=False),
    Column("lease", Text, nullable=False),
    Column("lease_seconds", Float, nullable=False, server_default="0"),
    Column("beats", Integer, nullable=False, server_default="0"),  # how often the holder of the lease showed itself
    Index("ix_jobs_state", "state", "created_at"),
)
job_events = Table(
    "job_events",
    metadata,
    Column("job", Text, ForeignKey("jobs.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("stage", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("data", JSON, nullable=False),
)
_JOB_COLUMNS = [column for column in jobs.c if column.name not in ("worker", "lease", "lease_seconds", "beats")]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a job, for ``ttl_seconds`` after the last report or heartbeat."""

    job: Job
    token: str
    ttl_seconds: float


class JobStore:
    """The queue of long work, and what became of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, kind: str, spec: dict[str, Any], actor: str, owner: Scope | None = None) -> Job:
        """Queue a job for whoever runs jobs of that ``kind``.

        It belongs to ``owner``, or to whoever submits it, as will all that it makes.
        """
        job = Job(new_id("job"), kind, spec, "queued", actor, attempt=0, created_at=now_us())
        row = {name: getattr(job, name) for name in Job.__dataclass_fields__}
        with self._database.write() as connection:
            connection.execute(insert(jobs).values(**row, worker="", lease="", lease_seconds=0.0, beats=0))
            claim(connection, owner or self._database.scope, "job", job.id)
        return job

    def get(self, job_id: str) -> Job:
        """Return the job; raise JobNotFound."""
        with self._database.read() as connection:
            return _get(connection, job_id, self._visible())

    def owner(self, job_id: str) -> Scope:
        """Return the project the job works for; raise JobNotFound."""
        with self._database.read() as connection:
            _get(connection, job_id)
            return owner(connection, "job", job_id) or EVERYTHING.narrowed()

    def queued(self, limit: int = 100) -> Sequence[Job]:
        """Return jobs that wait to be claimed, oldest first."""
        query = (
            select(*_JOB_COLUMNS).where(jobs.c.state == "queued").order_by(jobs.c.created_at, jobs.c.id).limit(limit)
        )
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def events(self, job_id: str, after: int = 0) -> Sequence[JobEvent]:
        """Return the job's events with a seq above ``after``; raise JobNotFound."""
        columns = [column for column in job_events.c if column.name != "job"]
        query = select(*columns).where(job_events.c.job == job_id, job_events.c.seq > after)
        with self._database.read() as connection:
            _get(connection, job_id, self._visible())
            return [JobEvent(*row) for row in connection.execute(query.order_by(job_events.c.seq))]

    def claim(self, job_id: str, worker: str, ttl_seconds: float) -> Lease | None:
        """Take a queued job for ``worker``; None if it is not queued (any more)."""
        token, now = secrets.token_hex(16), now_us()
        with self._database.write() as connection:
            job = _get(connection, job_id)
            if job.state != "queued":
                return None
            values: dict[str, Any] = {"state": "running", "attempt": job.attempt + 1, "worker": worker}
            values |= {"started_at": job.started_at or now, "lease": token, "lease_seconds": ttl_seconds, "beats": 0}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            return Lease(_get(connection, job_id), token, ttl_seconds)

    def heartbeat(self, lease: Lease, ttl_seconds: float | None = None) -> None:
        """Extend the lease, as long as it was claimed for or for ``ttl_seconds``; raise LeaseLost or JobCancelled."""
        self._extend(lease if ttl_seconds is None else replace(lease, ttl_seconds=ttl_seconds), {})

    def report(
        self, lease: Lease, stage: str, progress: float, message: str = "", data: dict[str, Any] | None = None
    ) -> None:
        """Tell how far the job is (``progress`` of the whole, 0..1), and extend the lease; raise as heartbeat()."""
        event = JobEvent(0, now_us(), stage, message, progress, data or {})
        self._extend(lease, {"stage": stage, "progress": progress}, event)

    def succeed(self, lease: Lease, result: dict[str, Any]) -> Job:
        """End the job with its result, also if cancelling was asked for too late; raise LeaseLost."""
        return self._end(lease, "succeeded", {"result": result, "progress": 1.0})

    def fail(self, lease: Lease, error: dict[str, Any]) -> Job:
        """End the job with what went wrong (code, message, hint); raise LeaseLost."""
        return self._end(lease, "failed", {"error": error})

    def cancel_done(self, lease: Lease) -> Job:
        """End the job as its worker has heard that it was cancelled; raise LeaseLost."""
        return self._end(lease, "cancelled", {})

    def release(self, lease: Lease) -> Job:
        """Give the job back, unfinished through no fault of its own (the server stops); raise LeaseLost."""
        with self._database.write() as connection:
            job = _held(connection, lease)
            if job.cancel_requested:
                return _close(connection, job.id, "cancelled", {})
            return _requeue(connection, job.id, attempt=job.attempt - 1)

    def request_cancel(self, job_id: str) -> Job:
        """Cancel a queued job, or ask the worker of a running one to stop; raise JobNotFound or JobEnded."""
        with self._database.write() as connection:
            job = _get(connection, job_id, self._visible())
            if job.state in JOB_ENDED:
                raise JobEnded(f"job {job_id!r} has ended: it is {job.state}")
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True))
            return _close(connection, job_id, "cancelled", {}) if job.state == "queued" else _get(connection, job_id)

    def pulses(self) -> Sequence[Pulse]:
        """Return the pulses of all running jobs."""
        columns = (jobs.c.id, jobs.c.lease, jobs.c.beats, jobs.c.lease_seconds)
        with self._database.read() as connection:
            query = select(*columns).where(jobs.c.state == "running").order_by(jobs.c.id)
            return [Pulse(*row) for row in connection.execute(query)]

    def expire(self, silent: Pulse) -> Job | None:
        """Take back a job whose worker shows itself no more; None if it has done so meanwhile, or the job has ended.

        The job is queued again, or fails after MAX_ATTEMPTS, or is cancelled if that was asked.
        """
        still = (jobs.c.lease == silent.token, jobs.c.beats == silent.beats, jobs.c.state == "running")
        with self._database.write() as connection:
            if connection.scalar(select(jobs.c.id).where(jobs.c.id == silent.job, *still)) is None:
                return None
            return _take_back(connection, _get(connection, silent.job))

    def abandon(self, job_id: str) -> Job | None:
        """Take back a job whose worker is known to be dead, without waiting for its lease; None if it has ended."""
        with self._database.write() as connection:
            job = _get(connection, job_id)
            return _take_back(connection, job) if job.state == "running" else None

    def list(self, kind: str | None = None, state: JobState | None = None, limit: int = 100) -> Sequence[Job]:
        """Return the newest jobs first, of one ``kind`` or in one ``state`` if given."""
        newest = select(*_JOB_COLUMNS).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        query = newest.where(self._visible()).limit(limit)
        if kind is not None:
            query = query.where(jobs.c.kind == kind)
        if state is not None:
            query = query.where(jobs.c.state == state)
        with self._database.read() as connection:
            return [_job(row) for row in connection.execute(query)]

    def _visible(self) -> ColumnElement[bool]:
        return visible(self._database.scope, "job", jobs.c.id)

    def _extend(self, lease: Lease, values: dict[str, Any], event: JobEvent | None = None) -> None:
        with self._database.write() as connection:
            job = _held(connection, lease)
            values = values | {"lease_seconds": lease.ttl_seconds, "beats": jobs.c.beats + 1}
            connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
            if event is not None:
                _tell(connection, job.id, event)
        if job.cancel_requested:  # raised outside of the transaction, which is to be kept
            raise JobCancelled(f"job {job.id!r} was cancelled")

    def _end(self, lease: Lease, state: JobState, values: dict[str, Any]) -> Job:
        with self._database.write() as connection:
            return _close(connection, _held(connection, lease).id, state, values)


def _get(connection: Connection, job_id: str, *conditions: ColumnElement[bool]) -> Job:
    row = connection.execute(select(*_JOB_COLUMNS).where(jobs.c.id == job_id, *conditions)).one_or_none()
    if row is None:
        raise JobNotFound(f"there is no job {job_id!r}")
    return _job(row)


def _held(connection: Connection, lease: Lease) -> Job:
    token = connection.scalar(select(jobs.c.lease).where(jobs.c.id == lease.job.id))
    if token != lease.token:
        raise LeaseLost(f"job {lease.job.id!r} is no longer held by this worker: its lease ran out or it has ended")
    return _get(connection, lease.job.id)


def _close(connection: Connection, job_id: str, state: JobState, values: dict[str, Any]) -> Job:
    values = values | {"state": state, "ended_at": now_us(), "lease": ""}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    return _get(connection, job_id)


def _requeue(connection: Connection, job_id: str, attempt: int) -> Job:
    values = {"state": "queued", "attempt": attempt, "lease": "", "worker": "", "progress": 0.0, "stage": ""}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    return _get(connection, job_id)


def _take_back(connection: Connection, job: Job) -> Job:
    story = f"the worker of attempt {job.attempt} was lost"
    _tell(connection, job.id, JobEvent(0, now_us(), job.stage, story, job.progress))
    if job.cancel_requested:
        return _close(connection, job.id, "cancelled", {})
    if job.attempt < MAX_ATTEMPTS:
        return _requeue(connection, job.id, job.attempt)
    hint = "it may need more memory than there is; `mofang status` shows the worker's log"
    error = {"code": JobFailed.code, "message": f"the job lost its worker {job.attempt} times", "hint": hint}
    return _close(connection, job.id, "failed", {"error": error})


def _tell(connection: Connection, job_id: str, event: JobEvent) -> None:
    last = connection.scalar(select(func.max(job_events.c.seq)).where(job_events.c.job == job_id)) or 0
    row = {"seq": last + 1, "at": event.at, "stage": event.stage, "message": event.message}
    connection.execute(insert(job_events).values(job=job_id, progress=event.progress, data=event.data, **row))


def _job(row: Row[Any]) -> Job:
    return Job(**row._mapping)
