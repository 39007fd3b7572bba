"""A23: requests that are cancelled, time out, or die with their gateway leave nothing reserved, and nobody is refused
while there is budget. What the short form and the long one share."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from mofang import Client
from mofang.base.domain.errors import Exhausted, MofangError
from mofang.surface.sdk.budget import BudgetState
from servers import Server, wait_until


def leaks(server: Server, requests: int, kills: int) -> Counter[str]:
    """Ask ``requests`` times, many of them in vain, and kill gateways ``kills`` times meanwhile; return the outcomes.

    ``slow`` is an endpoint of the server, which has two gateways. Afterwards nothing is reserved, what was spent is
    what is on record, and what is left of the budget can be used to the last request.
    """
    key = server.consumer()
    budget = server.client.budget.set("project", "default", 3 * requests, "requests")
    done = threading.Event()
    killing = threading.Thread(target=_kill_gateways, args=(server, kills, done))
    killing.start()
    with ThreadPoolExecutor(8) as pool:
        outcomes = Counter(pool.map(lambda number: _ask(server, key, number), range(requests)))
    done.set()
    killing.join()
    assert "budget.quota" not in outcomes  # a phantom: there is budget for three times as many

    wait_until(lambda: _state(server).lent == _state(server).reserved == 0, 20, "what was lent comes back")
    spent = _state(server).spent
    (row,) = server.client.meter.usage(["project"], project="default").items
    assert outcomes["ok"] <= spent == row.quantities["requests"] <= requests

    server.client.budget.set("project", "default", spent + 5, "requests")
    with Client(server.url, key, grpc=server.grpc) as client:
        quick = {"x": np.ones((1, 4), np.float32), "steps": np.array([1], np.int64)}
        for _ in range(5):
            client.serve.predict("slow", quick)
        with pytest.raises(Exhausted, match="is used up"):
            client.serve.predict("slow", quick)
    assert server.client.budget.list()[0].id == budget.id
    return outcomes


def _ask(server: Server, key: str, number: int) -> str:
    """Ask for some milliseconds of work, and wait for more or for less than it takes."""
    steps = np.array([random.choice([1, 50, 400, 4000])], np.int64)
    patience = random.choice([0.01, 0.05, 0.2, 5.0])
    with Client(server.url, key, grpc=server.grpc, timeout_seconds=5) as client:
        try:
            client.serve.predict(
                "slow",
                {"x": np.ones((1, 4), np.float32), "steps": steps},
                protocol="grpc" if number % 3 == 0 else "rest",
                timeout_seconds=patience,
            )
        except MofangError as error:
            return error.code
    return "ok"


def _state(server: Server) -> BudgetState:
    return server.client.budget.list()[0]


def _kill_gateways(server: Server, kills: int, done: threading.Event) -> None:
    for _ in range(kills):
        if done.wait(0.5):
            return
        with suppress(MofangError, ProcessLookupError, StopIteration):
            gateways = [each for each in server.client.operate.status().processes if each.name.startswith("gateway-")]
            os.kill(random.choice([each.pid for each in gateways if each.pid]), signal.SIGKILL)
