"""A job's process: claims the job, does it, and writes what came of it. Started by the supervisor with the job's id.

Settings come from MOFANG_*, which the supervisor sets for all its children. SIGTERM puts the job back into the queue.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mofang.base.domain.errors import Internal, JobCancelled, LeaseLost, MofangError
from mofang.base.jobs.store import JobStore, Lease
from mofang.make.convert.toolchains import Toolchains
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop
from mofang.surface.server.batchwork import batch_work
from mofang.surface.server.child import start_logging
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.settings import Settings
from mofang.surface.server.wiring import Stores, open_stores

_LEASE_SECONDS = 15.0
_BEAT_SECONDS = 4.0
log = logging.getLogger(__name__)


class Stopped(BaseException):
    """SIGTERM came: the server stops. Not an Exception, so that no stage can swallow it."""


class LeasedProgress:
    """Writes a stage's progress into the job; learns there that someone cancelled it."""

    def __init__(self, store: JobStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Record a point, and hold on to the lease; raise JobCancelled if someone asked to stop."""
        self._store.report(self._lease, stage, fraction, message, data)


def main() -> int:
    """Do the job named on the command line."""
    start_logging()
    signal.signal(signal.SIGTERM, _stop)
    settings = Settings.load()
    stores = open_stores(settings)
    lease = stores.jobs.claim(sys.argv[1], f"pid {os.getpid()}", _LEASE_SECONDS)
    if lease is None:
        log.info("job %s is no longer waiting", sys.argv[1])
        return 0
    try:
        with _heartbeat(stores.jobs, lease), stores.database.acting(stores.jobs.owner(lease.job.id)):
            _work(stores, lease, settings)
    finally:
        stores.database.close()
    return 0


def _work(stores: Stores, lease: Lease, settings: Settings) -> None:
    try:
        workshop = _workshop(stores, settings, lease.job.id)
        kinds = {**JOB_KINDS, "batch": batch_work(DataDirectory(settings.data), stores.files)}
        result = kinds[lease.job.kind](lease.job.spec, workshop, LeasedProgress(stores.jobs, lease))
        stores.jobs.succeed(lease, result)
    except Stopped:
        stores.jobs.release(lease)
        return  # and leave the scratch: whoever takes the job up goes on from there
    except JobCancelled:
        stores.jobs.cancel_done(lease)
    except LeaseLost:
        log.warning("job %s was given to another worker", lease.job.id)
        return
    except MofangError as error:
        stores.jobs.fail(lease, {"code": error.code, "message": error.message, "hint": error.hint})
    except Exception as error:
        log.exception("job %s failed", lease.job.id)
        fault = Internal(f"{lease.job.kind} failed: {type(error).__name__}: {error}")
        stores.jobs.fail(lease, {"code": fault.code, "message": fault.message, "hint": fault.hint})
    shutil.rmtree(DataDirectory(settings.data).jobs / lease.job.id, ignore_errors=True)


def _workshop(stores: Stores, settings: Settings, job: str) -> Workshop:
    folders = DataDirectory(settings.data)
    return Workshop(
        blobs=stores.blobs,
        datasets=stores.datasets,
        runs=stores.runs,
        evaluations=stores.evaluations,
        variants=stores.variants,
        registry=stores.registry,
        scratch=folders.jobs / job,
        job=job,
        upstreams=settings.upstreams,
        internal=settings.sources_internal,
        toolchains=Toolchains(folders.toolchains),
    )


@contextmanager
def _heartbeat(store: JobStore, lease: Lease) -> Iterator[None]:
    """Keep the lease while a stage is silent; a lost or cancelled one shows at the stage's next report."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_BEAT_SECONDS):
            try:
                store.heartbeat(lease, _LEASE_SECONDS)
            except MofangError as error:
                log.warning("heartbeat: %s", error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _stop(number: int, frame: object) -> None:
    raise Stopped


if __name__ == "__main__":
    sys.exit(main())
