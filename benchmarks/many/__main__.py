"""Many models on one machine: 200 endpoints loaded on demand, in bounded memory, under traffic that few of them get.

    python benchmarks/many [--models 200] [--memory-mb 2048] [--seconds 60] [--quick]

Every model is an ONNX of 1 to 20 MB with weights of its own, and answers its number, so that a wrong answer shows.
Printed are: what registering costs; how soon a server that has them all is ready; how long the first answer of a model
of 20 MB takes; how much longer an always loaded model takes while others are loaded, with turns alone between; loads,
evictions and memory of the whole tree (what processes share counted once) under Zipf's traffic.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks" / "serve")]

import machine  # noqa: E402
from nets import FEATURES, STEP, save  # noqa: E402
from stock import fill  # noqa: E402

from servers import Server  # noqa: E402

SMALLEST, LARGEST = 1 << 20, 20 << 20
REST_OF_TREE = 384 << 20  # of the memory: supervisor, controller, gateway, spare, and models that load just then
STEADY = "steady"  # always loaded
ZIPF = 1.1
_PUSHED = 4
ROW = {"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [0.5] * FEATURES}


def name(number: int) -> str:
    """Return the name of an endpoint."""
    return f"m{number:03}"


class Asker:
    """One client; every answer is checked."""

    def __init__(self, server: Server) -> None:
        self._http = httpx.Client(
            base_url=server.url, headers={"authorization": f"Bearer {server.key}"}, timeout=60.0, trust_env=False
        )

    def ask(self, endpoint: str, number: int) -> float:
        """Return the seconds of one answer; raise if it is not that model's."""
        began = time.perf_counter()
        answer = self._http.post(f"/v2/models/{endpoint}/infer", json={"inputs": [ROW]})
        taken = time.perf_counter() - began
        if answer.status_code != 200:
            raise RuntimeError(f"{endpoint}: {answer.status_code} {answer.text[:200]}")
        if round(answer.json()["outputs"][0]["data"][0] / STEP) != number:
            raise RuntimeError(f"{endpoint} answers as another model does: {answer.text[:200]}")
        return taken


def register(server: Server, sizes: Sequence[int], folder: Path) -> float:
    """Have all endpoints, the first few pushed and deployed as people do; return the seconds each of those took."""
    began = time.perf_counter()
    for number in range(_PUSHED):
        path = folder / f"{number}.onnx"
        save(number, sizes[number], path)
        server.serve(name(number), path, limits={"on_demand": True})
    each = (time.perf_counter() - began) / _PUSHED
    path = folder / "steady.onnx"
    save(0, SMALLEST, path)
    server.serve(STEADY, path)
    server.close()
    fill(server.data, {name(number): (number, sizes[number]) for number in range(_PUSHED, len(sizes))})
    return each


def pages(server: Server) -> list[str]:
    """Return how long what lists everything takes."""
    lines = []
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {server.key}"}, timeout=60.0) as http:
        for path in ("/api/v1/endpoints?limit=1000", "/api/v1/status", "/metrics", "/v1/models"):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                answer = http.get(path)
                times.append(time.perf_counter() - began)
            lines.append(
                f"{path} {statistics.median(times) * 1000:.0f} ms ({len(answer.content):,} bytes, {answer.status_code})"
            )
    return lines


def cold_starts(server: Server, numbers: Sequence[int], pause: float) -> list[float]:
    """Ask models that sleep, one after another; ``pause`` lets a spare worker come back between."""
    asker = Asker(server)
    times = []
    for number in numbers:
        time.sleep(pause)
        times.append(asker.ask(name(number), number))
    return times


@contextmanager
def loading(server: Server, numbers: Iterator[int]) -> Iterator[list[float]]:
    """Load one model after another meanwhile."""
    over = threading.Event()
    times: list[float] = []

    def go() -> None:
        asker = Asker(server)
        while not over.is_set():
            number = next(numbers)
            times.append(asker.ask(name(number), number))
            over.wait(0.5)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        thread.join()


def beside(server: Server, numbers: Iterator[int], turns: int, seconds: float) -> tuple[list[float], list[float], int]:
    """Return the times of the steady model alone, and while others load, in turns; and how many loaded."""
    asker = Asker(server)
    alone: list[float] = []
    busy: list[float] = []
    loads = 0

    def steadily(times: list[float]) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            times.append(asker.ask(STEADY, 0))
            time.sleep(0.002)

    asker.ask(STEADY, 0)
    for _ in range(turns):
        steadily(alone)
        with loading(server, numbers) as times:
            steadily(busy)
        loads += len(times)
        time.sleep(1.0)
    return alone, busy, loads


@dataclass
class Watch:
    """Looks at the tree once a second."""

    server: Server
    peak_mb: float = 0.0
    pids: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)
    most: int = 0

    def look(self) -> None:
        """Look once."""
        self.peak_mb = max(self.peak_mb, machine.tree_megabytes(self.server.pid))
        found = [each for each in self.server.client.operate.status().processes if each.name.startswith("replica/m")]
        self.loaded = {each.pid for each in found if each.pid}
        self.pids |= self.loaded
        self.most = max(self.most, len(self.loaded))


def traffic(server: Server, count: int, seconds: float, clients: int, watch: Watch) -> list[float]:
    """Ask by Zipf's law for ``seconds``; return the times of all answers."""
    order = list(range(count))
    random.Random(1).shuffle(order)
    weights = [1 / rank**ZIPF for rank in range(1, count + 1)]
    until = time.perf_counter() + seconds

    def client(seed: int) -> list[float]:
        asker, chance, times = Asker(server), random.Random(seed), []
        while time.perf_counter() < until:
            (number,) = chance.choices(order, weights)
            times.append(asker.ask(name(number), number))
            time.sleep(0.01)
        return times

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, seed) for seed in range(clients)]
        while not all(each.done() for each in running):
            watch.look()
            time.sleep(1.0)
        return [taken for each in running for taken in each.result()]


def share(times: Sequence[float], part: float) -> float:
    """Return a percentile, in milliseconds."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))] * 1000


def told(times: Sequence[float]) -> str:
    """Return percentiles for people."""
    return f"p50 {share(times, 0.5):.1f} ms, p99 {share(times, 0.99):.1f} ms ({len(times)})"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Many models on one machine.")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--memory-mb", type=int, default=2048, help="of the whole tree")
    parser.add_argument("--seconds", type=float, default=60.0, help="of Zipf's traffic")
    parser.add_argument("--quick", action="store_true", help="24 models, 15 seconds, 700 MB")
    given = parser.parse_args()
    if given.quick:
        given.models, given.memory_mb, given.seconds = 24, 700, 15.0
    count = given.models
    sizes = [round(SMALLEST * (LARGEST / SMALLEST) ** (n / (count - 1))) for n in range(count)]
    room = {"MOFANG_ON_DEMAND_BYTES": str((given.memory_mb << 20) - REST_OF_TREE)}
    print(machine.describe())
    print(f"{count} models of 1 to 20 MB, {sum(sizes) >> 20} MB in all; {given.memory_mb} MB for the whole tree\n")
    with tempfile.TemporaryDirectory(prefix="bench-many-") as scratch:
        server = Server(Path(scratch) / "data", environ=room)
        try:
            none = machine.tree_seconds(server.pid)
            print(f"push and deploy         {register(server, sizes, Path(scratch)):.2f} s a model", flush=True)
            taken = server.start()
            used = machine.tree_seconds(server.pid)
            print(f"start with all of them  {taken:.2f} s, {used:.2f} s of processor time (with none: {none:.2f} s)")
            print("\n".join(f"{'list everything' if not n else '':23} {line}" for n, line in enumerate(pages(server))))
            largest = range(count - 1, count - 1 - min(30, count // 4), -1)
            print(f"first answer, 20 MB     {told(cold_starts(server, largest, 2.0))}, goal 400 ms", flush=True)
            rest = iter([*range(count - 1 - min(30, count // 4), -1, -1)] * 10)
            alone, busy, loads = beside(server, rest, 3 if given.quick else 10, 3.0)
            ratio = share(busy, 0.99) / share(alone, 0.99)
            print(f"always loaded, alone    {told(alone)}")
            print(f"  while {loads:3} others load {told(busy)}: p99 x {ratio:.2f}, goal 1.5", flush=True)
            watch = Watch(server)
            times = traffic(server, count, given.seconds, 8, watch)
            print(f"Zipf, 8 clients         {told(times)}, {len(times) / given.seconds:.0f} a second")
            gone = len(watch.pids - watch.loaded)
            print(f"  loads {len(watch.pids)}, evictions {gone}, most loaded at once {watch.most}")
            print(f"  peak memory {watch.peak_mb:.0f} MB, goal {given.memory_mb}")
        finally:
            server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
