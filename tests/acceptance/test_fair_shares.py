"""A tenant that floods an endpoint far beyond its capacity does not slow down another that asks now and then.

Nobody can be answered before the call that is being computed ends. So what is counted is how many calls of the flood
are answered while the quiet tenant waits for one of hers: that is her time in units of the model's, and unlike seconds
it is the same on a busy machine. Alone she waits for none; half as long again is one.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from asking import inputs
from nets import slow

from mofang import Client
from mofang.base.domain.errors import MofangError
from servers import Server

STEPS = 300  # some tens of milliseconds
ASKED = 40
FLOODERS = 16  # each with its next request the moment the last was answered: always many more than can be computed


class Flood:
    """Asks without a pause on many connections, and counts the answers."""

    def __init__(self, server: Server, key: str) -> None:
        self._server = server
        self._key = key
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(FLOODERS)]
        self._lock = threading.Lock()
        self.answers = 0

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        with Client(self._server.url, self._key, grpc=self._server.grpc) as client:
            while not self._done.is_set():
                with suppress(MofangError):
                    client.serve.predict("slow", inputs(STEPS))
                    with self._lock:
                        self.answers += 1


def test_a_flood_does_not_slow_down_a_quiet_tenant(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("slow", slow(tmp_path))
    keys = {}
    for tenant in ("flood", "quiet"):
        server.client.identity.create_tenant(tenant)
        server.client.identity.create_project(tenant, tenant)
        keys[tenant] = server.client.identity.create_key(tenant).key
    flood = Flood(server, keys["flood"])
    flood.start()
    passed = _quiet(server, keys["quiet"], flood)
    assert np.percentile(passed, 75) <= 2, passed  # the one under way, and one that was answered as she came
    assert flood.answers > ASKED  # who floods gets what the other leaves

    server.client.identity.set_weight("quiet", 1)  # a hundredth of the usual share: no more than fair
    held_up = _quiet(server, keys["quiet"], flood, asked=4)
    flood.stop()
    assert max(held_up) > 2 * FLOODERS, held_up


def _quiet(server: Server, key: str, flood: Flood, asked: int = ASKED) -> list[int]:
    """Ask now and then; return how many calls of the flood were answered while each of hers was."""
    rng, passed = random.Random(1), []
    with Client(server.url, key, grpc=server.grpc) as client:
        for _ in range(asked):
            time.sleep(rng.uniform(0.05, 0.3) if asked == ASKED else 0)
            before = flood.answers
            client.serve.predict("slow", inputs(STEPS), timeout_seconds=60)
            passed.append(flood.answers - before)
    return passed
