"""A worker: one replica in a process of its own. Started by the supervisor with a ReplicaSpec as its argument.

Models that turn tensors into tensors and language models are hosted differently; the engine's name tells which it is.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path

import msgspec

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.engines.catalog import generator_names, load_engine, load_generator
from mofang.base.placement.calibration import Calibrator
from mofang.base.placement.host import host
from mofang.base.placement.replica import Replica
from mofang.base.placement.streamhost import host_streams
from mofang.base.placement.streams import StreamReplica, open_streams
from mofang.base.placement.thread import open_replica
from mofang.surface.server.child import run_child
from mofang.surface.server.counting import counters_of
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.lockin import begin_anew, lock_in
from mofang.surface.server.settings import Settings


def work(argument: str) -> int:
    """Serve one replica until told to stop; what is queued is answered first. ``argument`` is a ReplicaSpec."""
    spec = msgspec.json.decode(argument, type=ReplicaSpec)
    settings = Settings.load()
    locked = settings.worker_bytes > 0 and spec.engine not in generator_names()
    if locked:
        begin_anew(argument)
    options = dict(settings.engine_options.get(spec.engine, {}))
    if spec.calibration is not None and not settings.engine_threads:
        options["threads"] = spec.calibration.threads
    options |= spec.options
    tally = counters_of(spec, DataDirectory(settings.data).counters)

    calibrator = Calibrator(load_engine, len(os.sched_getaffinity(0)))
    load_tensors = calibrator if spec.calibrate and not settings.engine_threads else load_engine

    def load() -> Replica:
        return open_replica(load_tensors, spec.engine, Path(spec.folder), spec.limits, options, tally)

    def load_streams() -> StreamReplica:
        load = partial(load_generator, adapters={name: Path(folder) for name, folder in spec.adapters.items()})
        return open_streams(load, spec.engine, Path(spec.folder), spec.limits, options, tally)

    def lock() -> None:
        if locked:
            tally.open()
            lock_in(Path(spec.folder), settings.worker_bytes)

    async def serve(stop: asyncio.Event) -> None:
        if spec.engine in generator_names():
            await host_streams(load_streams, TEXT_SIGNATURE, spec.socket, stop=stop)
        else:
            await host(
                load, spec.socket, stop=stop, calibration=lambda: calibrator.found, before_loading=lock, maps=not locked
            )

    return run_child(serve)


if __name__ == "__main__":
    sys.exit(work(sys.argv[1]))
