"""A worker: one replica in a process of its own. Started by the supervisor with a ReplicaSpec as its argument."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from mofang.base.domain.deployment import ReplicaSpec
from mofang.base.engines.base import warm_up
from mofang.base.engines.catalog import load_engine
from mofang.base.placement.host import host
from mofang.base.placement.replica import Replica
from mofang.surface.server.child import run_child


def main() -> int:
    """Serve one replica until told to stop; what is queued is answered first."""
    spec = msgspec.json.decode(sys.argv[1], type=ReplicaSpec)
    threads = int(os.environ.get("MOFANG_ENGINE_THREADS", "1"))

    def load() -> Replica:
        engine = load_engine(spec.engine, Path(spec.folder), {"threads": threads})
        warm_up(engine)
        return Replica(engine, spec.limits)

    async def serve(stop: asyncio.Event) -> None:
        await host(load, spec.socket, stop=stop)

    return run_child(serve)


if __name__ == "__main__":
    sys.exit(main())
