"""A worker: one replica in a process of its own. Started by the supervisor with a ReplicaSpec as its argument."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.engines.catalog import load_engine
from mofang.base.placement.host import host
from mofang.base.placement.replica import Replica
from mofang.base.placement.thread import open_replica
from mofang.surface.server.child import run_child
from mofang.surface.server.settings import Settings


def main() -> int:
    """Serve one replica until told to stop; what is queued is answered first."""
    spec = msgspec.json.decode(sys.argv[1], type=ReplicaSpec)
    options = Settings.load().engine_options.get(spec.engine, {})

    def load() -> Replica:
        return open_replica(load_engine, spec.engine, Path(spec.folder), spec.limits, options)

    async def serve(stop: asyncio.Event) -> None:
        await host(load, spec.socket, stop=stop)

    return run_child(serve)


if __name__ == "__main__":
    sys.exit(main())
