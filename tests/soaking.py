"""A15: models come and go for long, and what stays must not grow. What the short forms and the long one share."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mofang import Client
from mofang.base.domain.errors import MofangError
from mofang.surface.server.folders import DataDirectory
from servers import Server

X = np.ones((1, 4), np.float32)
STEADY = "steady"  # an endpoint that is never unloaded
MOST_BYTES_A_CYCLE = 1e6 / 1000
SLACK = 8  # descriptors, threads or files more than at first: what was open at the moment
RESIDENT = "resident bytes"


@dataclass(frozen=True)
class Sample:
    """What the processes that stay held after so many cycles."""

    cycles: int
    held: Mapping[tuple[str, str], int]  # by process and measure


@dataclass
class Soak:
    """What was seen, and how often a model was loaded for a request."""

    samples: list[Sample] = field(default_factory=list)
    cycles: int = 0
    failures: list[str] = field(default_factory=list)


def soak(
    server: Server, models: Sequence[str], seconds: float, every: float, clients: int = 2, pause: float = 0.0
) -> Soak:
    """Ask one model after the other, and ``steady`` between, from a few clients, each of whom rests for ``pause``
    seconds after a cycle; look at the processes meanwhile, ``every`` so many seconds.

    The server unloads a model as soon as it is idle, so that each request to one of many loads it.
    """
    seen, until, lock = Soak(), time.monotonic() + seconds, threading.Lock()
    key = server.consumer()

    def ask(first: int) -> None:
        with Client(server.url, key, grpc=server.grpc, timeout_seconds=60) as client:
            number = first * len(models) // clients
            while time.monotonic() < until:
                for endpoint in (models[number % len(models)], STEADY):
                    try:
                        answer = client.serve.predict(endpoint, {"x": X}, protocol=random.choice(("rest", "grpc")))
                    except MofangError as error:
                        seen.failures.append(f"{endpoint}: {error.code}")
                    else:
                        assert answer.outputs["y"].shape == X.shape
                number += 1
                with lock:
                    seen.cycles += 1
                time.sleep(pause)

    stay = _those_who_stay(server)
    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, first) for first in range(clients)]
        while time.monotonic() < until:
            seen.samples.append(Sample(seen.cycles, _held(server, stay)))
            time.sleep(every)
        for each in asking:
            each.result()
    assert _those_who_stay(server) == stay, "a process that is to stay was started anew"
    return seen


def growing(seen: Soak) -> list[str]:
    """Say of what there was more and more, once the first third had warmed everything up."""
    samples = [each for each in seen.samples if each.cycles >= seen.cycles / 3]
    assert len(samples) >= 6, "too few to tell"
    cycles = [each.cycles for each in samples]
    found = []
    for process, measure in samples[0].held:
        values = [each.held[process, measure] for each in samples]
        if measure == RESIDENT:
            slope = statistics.linear_regression(cycles, values).slope
            if slope > MOST_BYTES_A_CYCLE:
                found.append(f"{process}: {slope:,.0f} {measure} a cycle")
        else:
            third = max(1, len(values) // 3)
            before, after = statistics.median(values[:third]), statistics.median(values[-third:])
            if after > before + SLACK:
                found.append(f"{process}: {after:.0f} {measure}, {before:.0f} before")
    return found


def slopes(seen: Soak) -> dict[str, float]:
    """Return by how many bytes each process grew in a thousand cycles, once it was warm."""
    samples = [each for each in seen.samples if each.cycles >= seen.cycles / 3]
    cycles = [each.cycles for each in samples]
    processes = [process for process, measure in samples[0].held if measure == RESIDENT]
    return {
        process: 1000 * statistics.linear_regression(cycles, [each.held[process, RESIDENT] for each in samples]).slope
        for process in processes
    }


def _those_who_stay(server: Server) -> dict[str, int]:
    """Return the processes that no cycle starts or ends, by name."""
    processes = {each.name: each.pid for each in server.client.operate.status().processes}
    staying = {name: pid for name, pid in processes.items() if name.startswith(("gateway", "controller", "settler"))}
    steady = {name: pid for name, pid in processes.items() if name.startswith(f"replica/{STEADY}/")}
    return {"supervisor": server.pid, **staying, **steady}


def _held(server: Server, stay: Mapping[str, int]) -> dict[tuple[str, str], int]:
    counts: dict[str, Callable[[Path], int]] = {
        RESIDENT: lambda proc: 1024 * int((proc / "status").read_text().split("VmRSS:")[1].split()[0]),
        "descriptors": lambda proc: len(list((proc / "fd").iterdir())),
        "threads": lambda proc: len(list((proc / "task").iterdir())),
        "shared mappings": lambda proc: sum(
            line.split()[1].endswith("s") for line in (proc / "maps").read_text().splitlines()
        ),
    }
    held = {(name, what): count(Path(f"/proc/{pid}")) for name, pid in stay.items() for what, count in counts.items()}
    folders = {"sockets": DataDirectory(server.data).sockets, "temporary": server.data.parent / "tmp"}
    for name, folder in folders.items():
        held[name, "files"] = sum(1 for _ in folder.rglob("*"))
    return held
