"""A worker for tests: hosts a scripted or an ONNX model on a socket until SIGTERM.

Usage: placement_worker.py SOCKET FOLDER LIMITS_JSON
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop
from scripted_engine import ScriptedEngine

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.engines.base import Engine, Options
from mofang.base.engines.catalog import load_engine
from mofang.base.placement.host import host
from mofang.base.placement.thread import open_replica


def load(name: str, folder: Path, options: Options) -> Engine:
    if (folder / "model.onnx").exists():
        return load_engine("onnx", folder, options)
    return ScriptedEngine(folder)


async def main(socket: str, folder: Path, limits: ReplicaLimits) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await host(lambda: open_replica(load, "any", folder, limits), socket, stop=stop)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]), ReplicaLimits(**json.loads(sys.argv[3]))))
