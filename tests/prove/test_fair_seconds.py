"""Fair shares in seconds: tenant A asks for ten times the capacity, B for a tenth of it; B's p99 grows by half at most.

The quick tests count calls instead (``tests/acceptance/test_fair_shares.py``): seconds mean something on an idle
machine only. Both tenants ask at times of their own, whether or not they were answered; alone and flooded take turns,
since the speed of a machine changes from minute to minute, and B asks at the same times in both.

Alone, B's p99 is two calls, since her own meet now and then. A scheduler that lets the call of A end which is computed
when B's comes has 2.7, 1.35 times as much, when nothing else costs time; one that interrupts it in its first half, 1.2.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from asking import address, slow_request
from nets import slow
from numpy.typing import NDArray

from flooding import flooding
from servers import Server

STEPS = 300  # some tens of milliseconds
TURNS, ASKED = 3, 200  # of B, alone and flooded
CONNECTIONS = 60  # of A
MOST = 1.5  # times B's p99 alone
STAGES = ("total", "queue", "compute", "rest")


@pytest.mark.timeout(900)
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
    alone: list[list[float]] = []
    flooded: list[list[float]] = []
    times = []  # the capacity that A asked for
    with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {keys[1]}"}, timeout=60) as client:
        quiet = Quiet(client)
        patience = CONNECTIONS / 10 * quiet.call_seconds  # until a connection of A asks again
        request = slow_request(keys[0], STEPS, f"x-request-timeout-ms: {round(1e3 * patience)}")
        for turn in range(TURNS):
            alone += quiet.ask(turn)
            with flooding(address(server), request, CONNECTIONS, patience) as flood:
                time.sleep(1 + patience)
                flooded += quiet.ask(turn)
            times.append(flood.asked / flood.seconds * quiet.call_seconds)
    found = {"alone": _p99(alone), "flooded": _p99(flooded)}
    ratio = found["flooded"]["total"] / found["alone"]["total"]
    record_property("one call, ms", round(1e3 * quiet.call_seconds, 1))
    record_property("A asked for, times the capacity", round(float(np.mean(times)), 1))
    record_property("B's p99 in ms", found)
    record_property("ratio", round(ratio, 2))
    assert min(times) > 5, "that was no flood"
    assert ratio <= MOST, found


class Quiet:
    """B, who asks at a tenth of the capacity, and keeps where the time of each request went, in milliseconds."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._body = slow_request("", STEPS).partition(b"\r\n\r\n")[2]
        self.call_seconds = float(np.median([self._ask(time.monotonic())[0] for _ in range(50)])) / 1e3

    def ask(self, turn: int) -> list[list[float]]:
        """Return for each request of a turn its :data:`STAGES`, from when it was due."""
        chance = random.Random(turn)
        with ThreadPoolExecutor(8) as pool:
            due, waiting = time.monotonic(), []
            for _ in range(ASKED):
                due += chance.expovariate(1 / (10 * self.call_seconds))
                time.sleep(max(0.0, due - time.monotonic()))
                waiting.append(pool.submit(self._ask, due))
            return [each.result() for each in waiting]

    def _ask(self, due: float) -> list[float]:
        answer = self._client.post("/v2/models/slow/infer", content=self._body)
        total = 1e3 * (time.monotonic() - due)
        assert answer.status_code == 200, answer.text
        queue, compute = map(float, re.findall(r"dur=([\d.]+)", answer.headers["server-timing"]))
        return [total, queue, compute, total - queue - compute]


def _p99(asked: list[list[float]]) -> dict[str, float]:
    """Return the p99 of each stage."""
    table: NDArray[np.float64] = np.percentile(np.array(asked), 99, axis=0)
    return {name: round(float(value), 1) for name, value in zip(STAGES, table, strict=True)}
