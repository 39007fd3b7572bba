from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mofang.base.domain.errors import JobCancelled, JobEnded, JobNotFound, LeaseLost
from mofang.base.domain.work import Job
from mofang.base.jobs.store import JobStore, Lease
from mofang.base.jobs.vigil import Vigil
from mofang.base.storage.database import Database

Look = Callable[[float], list[Job]]


class Clock:
    """A watch that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def look(jobs: JobStore, clock: Clock) -> Look:
    """Look after so many seconds at which workers are silent; returns the jobs that were taken back."""
    vigil = Vigil(clock)

    def look(seconds: float) -> list[Job]:
        clock.now += seconds
        return [job for pulse in vigil.silent(jobs.pulses()) if (job := jobs.expire(pulse)) is not None]

    return look


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def job(jobs: JobStore) -> Job:
    return jobs.submit("train", {"recipe": "name = 'digits'", "filename": "digits.toml"}, "key-1")


@pytest.fixture
def lease(jobs: JobStore, job: Job) -> Lease:
    lease = jobs.claim(job.id, "worker-1", 30)
    assert lease is not None
    return lease


def test_a_job_waits_until_it_is_claimed(jobs: JobStore, job: Job) -> None:
    assert jobs.get(job.id) == job
    assert (job.state, job.attempt, job.spec["filename"]) == ("queued", 0, "digits.toml")
    assert jobs.queued() == [job]


def test_one_worker_gets_a_job(jobs: JobStore, job: Job) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda n: jobs.claim(job.id, f"worker-{n}", 30), range(8)))
    (lease,) = [lease for lease in leases if lease is not None]
    assert (lease.job.state, lease.job.attempt) == ("running", 1)
    assert lease.job.started_at >= job.created_at
    assert jobs.queued() == []


def test_a_job_tells_its_story(jobs: JobStore, lease: Lease) -> None:
    jobs.report(lease, "prepare", 0.1, "1797 rows")
    jobs.report(lease, "train", 0.5, data={"epoch": 1, "loss": 0.25})
    events = jobs.events(lease.job.id)
    assert [(e.seq, e.stage, e.message, e.progress, e.data) for e in events] == [
        (1, "prepare", "1797 rows", 0.1, {}),
        (2, "train", "", 0.5, {"epoch": 1, "loss": 0.25}),
    ]
    assert jobs.events(lease.job.id, after=1) == events[1:]
    job = jobs.get(lease.job.id)
    assert (job.stage, job.progress) == ("train", 0.5)


def test_a_job_succeeds_once(jobs: JobStore, lease: Lease) -> None:
    job = jobs.succeed(lease, {"version": 1})
    assert (job.state, job.result, job.progress) == ("succeeded", {"version": 1}, 1.0)
    assert job.ended_at >= job.started_at
    for change in (jobs.heartbeat, jobs.cancel_done, jobs.release, lambda held: jobs.fail(held, {})):
        with pytest.raises(LeaseLost):
            change(lease)
    assert jobs.get(job.id) == job


def test_a_job_fails_with_its_reason(jobs: JobStore, lease: Lease) -> None:
    error = {"code": "gate.failed", "message": "accuracy is 0.5", "hint": "train longer"}
    job = jobs.fail(lease, error)
    assert (job.state, job.error) == ("failed", error)


def test_a_waiting_job_is_cancelled_at_once(jobs: JobStore, job: Job) -> None:
    assert jobs.request_cancel(job.id).state == "cancelled"
    assert jobs.claim(job.id, "worker-1", 30) is None
    with pytest.raises(JobEnded, match="cancelled"):
        jobs.request_cancel(job.id)


def test_a_running_job_hears_that_it_is_cancelled(jobs: JobStore, lease: Lease) -> None:
    assert jobs.request_cancel(lease.job.id).cancel_requested
    with pytest.raises(JobCancelled):
        jobs.heartbeat(lease)
    with pytest.raises(JobCancelled):
        jobs.report(lease, "train", 0.5, "kept nevertheless")
    assert [event.message for event in jobs.events(lease.job.id)] == ["kept nevertheless"]
    assert jobs.cancel_done(lease).state == "cancelled"


def test_a_job_that_ends_before_it_hears_of_cancelling_has_ended(jobs: JobStore, lease: Lease) -> None:
    jobs.request_cancel(lease.job.id)
    assert jobs.succeed(lease, {}).state == "succeeded"


def test_a_released_job_waits_again_and_has_lost_no_attempt(jobs: JobStore, lease: Lease) -> None:
    job = jobs.release(lease)
    assert (job.state, job.attempt) == ("queued", 0)
    assert jobs.queued() == [job]
    with pytest.raises(LeaseLost):
        jobs.report(lease, "train", 0.5)


def test_a_released_job_that_was_cancelled_is_cancelled(jobs: JobStore, lease: Lease) -> None:
    jobs.request_cancel(lease.job.id)
    assert jobs.release(lease).state == "cancelled"


def test_a_lease_that_is_kept_does_not_run_out(jobs: JobStore, lease: Lease, look: Look) -> None:
    assert look(0) == []
    for _ in range(10):
        jobs.heartbeat(lease)
        assert look(29) == []
    jobs.report(lease, "train", 0.5)
    assert look(29) == []
    jobs.heartbeat(lease, 7200)
    assert look(31) == look(7199) == []
    assert look(2)[0].id == lease.job.id


def test_who_begins_to_watch_gives_everybody_the_whole_time(jobs: JobStore, lease: Lease, look: Look) -> None:
    assert look(1e9) == look(30) == []
    assert len(look(1)) == 1
    assert look(1e9) == [], "the job waits again: nobody holds it"


def test_a_worker_that_shows_itself_at_the_last_moment_keeps_its_job(jobs: JobStore, lease: Lease) -> None:
    (pulse,) = jobs.pulses()
    jobs.heartbeat(lease)
    assert jobs.expire(pulse) is None
    (pulse,) = jobs.pulses()
    jobs.succeed(lease, {})
    assert jobs.expire(pulse) is None
    assert jobs.pulses() == []


def test_a_job_whose_worker_is_lost_goes_to_another(jobs: JobStore, lease: Lease, look: Look) -> None:
    assert look(0) == []
    (job,) = look(31)
    assert (job.state, job.attempt) == ("queued", 1)
    with pytest.raises(LeaseLost):
        jobs.succeed(lease, {})
    second = jobs.claim(job.id, "worker-2", 30)
    assert second is not None
    assert jobs.succeed(second, {}).attempt == 2
    assert [event.message for event in jobs.events(job.id)] == ["the worker of attempt 1 was lost"]


def test_a_job_that_kills_its_workers_fails(jobs: JobStore, job: Job, look: Look) -> None:
    for attempt in (1, 2, 3):
        assert jobs.claim(job.id, "worker", 30) is not None
        assert look(0) == []
        (job,) = look(31)
        assert job.attempt == attempt
    assert (job.state, job.error["code"]) == ("failed", "job.failed")
    assert "3 times" in job.error["message"]


def test_a_cancelled_job_whose_worker_is_lost_is_cancelled(jobs: JobStore, lease: Lease, look: Look) -> None:
    jobs.request_cancel(lease.job.id)
    assert look(0) == []
    assert [job.state for job in look(31)] == ["cancelled"]


def test_jobs_are_listed_newest_first(jobs: JobStore) -> None:
    train, push, other = (jobs.submit(kind, {}, "key-1") for kind in ("train", "push", "train"))
    assert jobs.list() == [other, push, train]
    assert jobs.list(kind="train", limit=1) == [other]
    assert jobs.list(state="running") == []
    assert jobs.queued(limit=2) == [train, push]


@pytest.mark.parametrize("ask", ["get", "events", "request_cancel"])
def test_a_job_that_is_not_there(jobs: JobStore, ask: str) -> None:
    with pytest.raises(JobNotFound, match="'job_none'"):
        getattr(jobs, ask)("job_none")


def test_a_job_whose_worker_is_known_to_be_dead_is_taken_back_at_once(jobs: JobStore) -> None:
    job = jobs.submit("train", {}, "key")
    lease = jobs.claim(job.id, "pid 1", 60.0)
    assert lease is not None
    taken = jobs.abandon(job.id)
    assert taken is not None
    assert (taken.state, taken.attempt) == ("queued", 1)
    with pytest.raises(LeaseLost):
        jobs.succeed(lease, {})
    again = jobs.claim(job.id, "pid 2", 60.0)
    assert again is not None
    assert again.job.attempt == 2
    jobs.succeed(again, {})
    assert jobs.abandon(job.id) is None
