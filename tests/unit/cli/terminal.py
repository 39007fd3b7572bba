"""A control API on real stores, one worker that does its jobs, and `mofang` run against it in this process."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.access import Scope
from mofang.base.domain.errors import JobCancelled, MofangError
from mofang.base.domain.work import Job
from mofang.base.jobs.store import JobStore, Lease
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop
from mofang.surface.api.platform import Platform
from mofang.surface.cli.main import run
from platforms import House


class PromptJobs(JobStore):
    """A job store that tells of every new job at once."""

    submitted: queue.SimpleQueue[str | None]

    def submit(self, kind: str, spec: dict[str, Any], actor: str, owner: Scope | None = None) -> Job:
        job = super().submit(kind, spec, actor, owner)
        if spec.get("filename") != "waiting.toml":  # a recipe of that name is left in the queue
            self.submitted.put(job.id)
        return job


@dataclass(frozen=True)
class Reporter:
    jobs: JobStore
    lease: Lease

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        self.jobs.report(self.lease, stage, fraction, message, data)


@contextmanager
def working(jobs: PromptJobs, platform: Platform, scratch: Path) -> Iterator[None]:
    """Do jobs in a thread, as a job's process would."""
    jobs.submitted = queue.SimpleQueue()

    def work() -> None:
        while (job := jobs.submitted.get()) is not None:
            lease = jobs.claim(job, "test", 60.0)  # waits for the transaction that submits it
            assert lease is not None
            tools = Workshop(
                blobs=platform.blobs, datasets=platform.datasets, runs=platform.runs, evaluations=platform.evaluations,
                variants=platform.variants, registry=platform.registry, scratch=scratch, job=job, timing_seconds=0.05,
            )  # fmt: skip
            try:
                with platform.acting(jobs.owner(job)):
                    result = JOB_KINDS[lease.job.kind](lease.job.spec, tools, Reporter(jobs, lease))
                jobs.succeed(lease, result)
            except JobCancelled:
                jobs.cancel_done(lease)
            except MofangError as error:
                jobs.fail(lease, {"code": error.code, "message": error.message, "hint": error.hint})

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        jobs.submitted.put(None)
        thread.join(30)


@dataclass(frozen=True)
class Site:
    house: House
    url: str


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """Runs `mofang` with the admin's key, unless the environment was changed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> Ran:
        self._capsys.readouterr()
        code = run(args)
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def good(self, *args: str) -> Ran:
        """Run what must succeed."""
        ran = self(*args)
        assert ran.code == 0, ran.err
        return ran
