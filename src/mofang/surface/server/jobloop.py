"""Starts a process for each queued job, as many at once as the settings allow, and puts back what was left behind."""

from __future__ import annotations

import asyncio
import logging

from mofang.base.domain.names import now_us
from mofang.base.jobs.store import JobStore
from mofang.surface.server.processes import Processes
from mofang.surface.server.restarts import ProcessSpec

_JOB = "job/"
_GRACE_SECONDS = 10.0
log = logging.getLogger(__name__)


class JobLoop:
    """The controller calls :meth:`step` after every change and now and then."""

    def __init__(self, store: JobStore, processes: Processes, slots: int) -> None:
        self._store = store
        self._processes = processes
        self._slots = slots

    async def step(self) -> None:
        """Forget jobs that ended, requeue those whose worker died, start what is queued."""
        for job in await asyncio.to_thread(self._store.expire, now_us()):
            log.warning("the worker of job %s is gone; the job is now %s", job.id, job.state)
        jobs = {name: state for name, state in self._processes.states.items() if name.startswith(_JOB)}
        for name, state in jobs.items():
            if state.status == "exited":
                self._processes.stop(name, _GRACE_SECONDS)
        free = self._slots - sum(state.status != "exited" for state in jobs.values())
        if free <= 0:
            return
        for job in await asyncio.to_thread(self._store.queued, free):
            argv = ("-m", "mofang.surface.server.jobworker", job.id)
            self._processes.start(ProcessSpec(name=f"{_JOB}{job.id}", argv=argv, keep=False))
