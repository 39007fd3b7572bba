"""What the proofs of metering do to a server while clients with ledgers of their own ask it: A17 and A18."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mofang.base.domain.errors import MofangError
from oracle import PRICES, Oracle, assert_guarantees
from servers import Server, wait_until

FAILPOINTS = os.pathsep.join([str(Path(__file__).with_name("failpoints")), os.environ.get("PYTHONPATH", "")])
VICTIMS = ("server", "controller", "gateway-0", "gateway-1", "replica/")


def storm(server: Server, kills: int, seed: int) -> tuple[Oracle, Counter[str]]:
    """Kill ``kills`` times a process chosen by chance at a moment chosen by chance; then compare all ledgers."""
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    server.client.bill.set_prices(PRICES)
    with Oracle(server, "scale") as oracle:
        oracle.wait_for_more(50)
        while killed.total() < kills:
            victim = chance.choice(VICTIMS)
            _pause(chance.uniform(0.0, 0.4))
            if victim == "server":
                server.kill()
                server.start()
            elif not _kill(server, victim):
                continue
            killed[victim] += 1
            oracle.wait_for_more(20, seconds=150)  # a worker that dies again and again is given up for a minute
        oracle.wait_for_more(50)
    _rest(server)
    assert_guarantees(server, oracle)
    return oracle, killed


def visit(server: Server, points: Sequence[str], folder: Path, rounds: int, seed: int) -> Oracle:
    """Let a process die at each of ``points``, ``rounds`` times in random order; then compare all ledgers."""
    chance = random.Random(seed)
    server.client.bill.set_prices(PRICES)
    with Oracle(server, "scale") as oracle:
        for turn in range(rounds):
            if turn:  # one that died often would be started again ever more slowly
                server.kill()
                server.start()
            for point in chance.sample(list(points), len(points)):
                fired = folder / f"{point}.fired"
                fired.unlink(missing_ok=True)
                (folder / point).touch()
                if point.endswith("segment"):  # passed when a gateway begins to write: have one begin
                    wait_until(lambda: _kill(server, "gateway-0"), 30, "a gateway to kill")
                wait_until(fired.exists, 60, f"a process that dies at {point}")
                oracle.wait_for_more(20)
    _rest(server)
    assert_guarantees(server, oracle)
    return oracle


def _kill(server: Server, prefix: str) -> bool:
    """Kill the first process of that name; False if none runs just now."""
    try:
        pid = server.process(prefix).pid
    except (MofangError, StopIteration):
        return False
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _rest(server: Server) -> None:
    """Wait until the control API answers: the last that died may have been the controller."""

    def answers() -> bool:
        try:
            return bool(server.client.operate.status().processes)
        except MofangError:
            return False

    wait_until(answers, 60, "the control API")


def _pause(seconds: float) -> None:
    """Let a moment pass that is chosen by chance: it waits for nothing."""
    time.sleep(seconds)
