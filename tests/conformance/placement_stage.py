"""A stage on which placements are put through their paces."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
from placement_worker import load
from scripted_engine import FIRST

from mofang.base.domain.deployment import ReplicaLimits, ReplicaSpec
from mofang.base.domain.inference import Call
from mofang.base.placement.base import ReplicaHandle
from mofang.base.placement.process import ProcessPlacement
from mofang.base.placement.thread import ThreadPlacement


class Stage:
    """A folder with a scripted model, and the worker that hosts it if the placement is ``process``."""

    def __init__(self, folder: Path, placement: str) -> None:
        self.folder = folder
        self.placement = placement
        self.limits = ReplicaLimits()
        self.worker: subprocess.Popen[bytes] | None = None
        os.mkfifo(folder / "gate")
        self._gate = os.open(folder / "gate", os.O_RDWR)

    @property
    def spec(self) -> ReplicaSpec:
        name = "thread" if self.placement == "thread" else "process"
        return ReplicaSpec("e/1/0", "any", str(self.folder), name, self.limits, str(self.folder / "socket"))

    def start_worker(self) -> subprocess.Popen[bytes]:
        program = str(Path(__file__).with_name("placement_worker.py"))
        limits = json.dumps(asdict(self.limits))
        self.worker = subprocess.Popen([sys.executable, program, self.spec.socket, str(self.folder), limits])
        return self.worker

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.worker.wait()

    @asynccontextmanager
    async def opened(self, limits: ReplicaLimits | None = None) -> AsyncIterator[ReplicaHandle]:
        self.limits = limits or self.limits
        if self.placement == "thread":
            handle: ReplicaHandle = await ThreadPlacement(load).open(self.spec)
        else:
            if self.worker is None:
                self.start_worker()
            handle = await ProcessPlacement().open(self.spec)
        try:
            yield handle
        finally:
            await handle.close()

    def release(self, count: int = 1) -> None:
        os.write(self._gate, b"." * count)

    def computed(self) -> list[int]:
        lines = (self.folder / "computed").read_text().split()
        return [int(line) for line in lines if int(line) >= FIRST]

    async def until_computed(self, *rows: int) -> None:
        await until(lambda: set(rows) <= set(self.computed()))

    def close(self) -> None:
        if self.worker is not None:
            self.kill_worker()
        os.close(self._gate)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Let the event loop turn until ``condition()`` holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- what is waited for happens in other processes
            await asyncio.sleep(0.001)


def call(
    first: float, second: float = 0.0, *, rows: int = 1, tenant: str = "t", seconds: float = 30.0, priority: int = 0
) -> Call:
    """Return a call for the scripted model: ``rows`` rows that begin at ``first``."""
    x = np.full((rows, 2), second, np.float32)
    x[:, 0] = first + np.arange(rows)
    return Call("r", tenant, {"x": x}, rows, time.monotonic() + seconds, priority)
