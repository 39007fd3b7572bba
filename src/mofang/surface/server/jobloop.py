"""Starts a process for each queued job, as many at once as the settings allow, and puts back what was left behind."""

from __future__ import annotations

import asyncio
import logging
import shutil
from dataclasses import replace
from pathlib import Path

from mofang.base.domain.work import JOB_ENDED, Job
from mofang.base.jobs.store import JobStore
from mofang.base.jobs.vigil import Pulse, Vigil
from mofang.make.train.store import RunStore
from mofang.surface.server.processes import Processes
from mofang.surface.server.restarts import ProcessSpec

_JOB = "job/"
_GRACE_SECONDS = 10.0
log = logging.getLogger(__name__)


class JobLoop:
    """The controller calls :meth:`step` after every change and now and then."""

    def __init__(self, store: JobStore, runs: RunStore, processes: Processes, slots: int, scratch: Path) -> None:
        self._scratch = scratch
        self._vigil = Vigil()
        self._store = store
        self._runs = runs
        self._processes = processes
        self._slots = slots

    async def step(self) -> None:
        """Put back the jobs whose worker died, start what is queued."""
        jobs = {name: state for name, state in self._processes.states.items() if name.startswith(_JOB)}
        for name, state in jobs.items():
            if state.status == "exited":
                await asyncio.to_thread(self._abandon, name.removeprefix(_JOB))
                self._processes.stop(name, _GRACE_SECONDS)
        for pulse in self._vigil.silent(await asyncio.to_thread(self._store.pulses)):
            await asyncio.to_thread(self._expire, pulse)
        free = self._slots - len(jobs)  # one that exited counts until the supervisor has forgotten its name
        if free > 0:
            for job in await asyncio.to_thread(self._store.queued, free):
                argv = ("-m", "mofang.surface.server.jobworker", job.id)
                self._processes.start(ProcessSpec(name=f"{_JOB}{job.id}", argv=argv, keep=False))

    def _expire(self, silent: Pulse) -> None:
        """Put back a job whose process shows itself no more."""
        job = self._store.expire(silent)
        if job is not None:
            self._take_back(job)

    def _abandon(self, job_id: str) -> None:
        """Put back a job whose process has ended, unless it has done its work."""
        job = self._store.abandon(job_id)
        if job is not None:
            self._take_back(job)

    def _take_back(self, job: Job) -> None:
        """Note a job whose worker is gone; close the run of one that nobody will take up again."""
        log.warning("the worker of job %s is gone; the job is now %s", job.id, job.state)
        if job.state in JOB_ENDED:
            shutil.rmtree(self._scratch / job.id, ignore_errors=True)
        run = self._runs.find_by_job(job.id) if job.state == "failed" else None
        if run is not None:
            self._runs.save(replace(run, state="failed", ended_at=job.ended_at, error=job.error))
