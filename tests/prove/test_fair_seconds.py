"""Fair shares in seconds: tenant A asks for ten times the capacity, B for a tenth of it; B's p99 grows by half at most.

The quick tests count calls instead (``tests/acceptance/test_fair_shares.py``): seconds mean something on an idle
machine only. Both tenants ask at times of their own, whether or not they were answered; alone and flooded take turns,
since the speed of a machine changes from minute to minute.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from nets import slow

from mofang import Client
from mofang.base.domain.errors import MofangError
from servers import Server

STEPS = 300  # some milliseconds
TURNS, ASKED = 3, 60  # of B, alone and flooded
FLOODERS = 60
MOST = 1.5  # times B's p99 alone


def test_a_flood_raises_the_p99_of_another_by_half_at_most(
    start_server: Callable[..., Server], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    server = start_server()
    server.serve("slow", slow(tmp_path))
    keys = []
    for tenant in ("a", "b"):
        server.client.identity.create_tenant(tenant)
        server.client.identity.create_project(tenant, tenant)
        keys.append(server.client.identity.create_key(tenant).key)
    seconds = _service_seconds(server, keys[1])
    alone: list[float] = []
    flooded: list[float] = []
    asked = 0
    for _ in range(TURNS):
        alone += _quiet(server, keys[1], seconds)
        done = threading.Event()
        with ThreadPoolExecutor(FLOODERS) as pool:
            floods = [pool.submit(_flood, server, keys[0], seconds, done) for _ in range(FLOODERS)]
            time.sleep(1)
            began = time.monotonic()
            flooded += _quiet(server, keys[1], seconds)
            took = time.monotonic() - began
            done.set()
            asked += round(sum(flood.result() for flood in floods) * seconds / took)
    p99_alone, p99_flooded = (float(np.percentile(each, 99)) for each in (alone, flooded))
    record_property("one call, ms", round(1e3 * seconds, 2))
    record_property("A asked for, times the capacity", round(asked / TURNS, 1))
    record_property("B's p99 alone, ms", round(1e3 * p99_alone, 1))
    record_property("B's p99 flooded, ms", round(1e3 * p99_flooded, 1))
    record_property("ratio", round(p99_flooded / p99_alone, 2))
    assert asked / TURNS > 5, "that was no flood"
    assert p99_flooded <= MOST * p99_alone


def _ask(client: Client, timeout_seconds: float = 60.0) -> None:
    inputs = {"x": np.ones((1, 4), np.float32), "steps": np.array([STEPS], np.int64)}
    client.serve.predict("slow", inputs, timeout_seconds=timeout_seconds)


def _service_seconds(server: Server, key: str) -> float:
    """Return how long one call takes."""
    with Client(server.url, key, grpc=server.grpc) as client:
        return float(np.median([_since(time.monotonic(), client) for _ in range(50)]))


def _since(due: float, client: Client) -> float:
    _ask(client)
    return time.monotonic() - due


def _quiet(server: Server, key: str, seconds: float) -> list[float]:
    """Ask at a tenth of the capacity; return the seconds from when each was due to its answer."""
    chance = random.Random(1)
    with Client(server.url, key, grpc=server.grpc) as client, ThreadPoolExecutor(8) as pool:
        due, waiting = time.monotonic(), []
        for _ in range(ASKED):
            due += chance.expovariate(1 / (10 * seconds))
            time.sleep(max(0.0, due - time.monotonic()))
            waiting.append(pool.submit(_since, due, client))
        return [each.result() for each in waiting]


def _flood(server: Server, key: str, seconds: float, done: threading.Event) -> int:
    """Ask for a share of ten times the capacity, and wait no longer than until the next; return how often."""
    asked, patience = 0, FLOODERS / 10 * seconds
    with Client(server.url, key, grpc=server.grpc) as client:
        while not done.is_set():
            until = time.monotonic() + patience
            asked += 1
            with suppress(MofangError):
                _ask(client, patience)
            time.sleep(max(0.0, until - time.monotonic()))
    return asked
