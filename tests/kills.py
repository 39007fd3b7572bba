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
from oracle import PRICES, Oracle, assert_guarantees, capped_budget
from servers import Server, wait_until

FAILPOINTS = os.pathsep.join([str(Path(__file__).with_name("failpoints")), os.environ.get("PYTHONPATH", "")])
AT_ENDS = ("segment", "release")  # points so named are passed when a gateway begins or ends
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
            oracle.top_up()
            oracle.wait_for_more(20, seconds=150)  # a worker that dies again and again is given up for a minute
        oracle.wait_for_more(50)
        _rest(server)
    assert_guarantees(server, oracle)
    return oracle, killed


def visit(server: Server, points: Sequence[str], folder: Path, rounds: int, seed: int) -> Oracle:
    """Let a process die at each of ``points``, ``rounds`` times in random order; then compare all ledgers."""
    chance = random.Random(seed)
    server.client.bill.set_prices(PRICES)
    order = [point for _ in range(rounds) for point in chance.sample(list(points), len(points))]
    with Oracle(server, "scale") as oracle:
        for turn, point in enumerate(order, 1):
            if not turn % 6:  # what died often would be started again ever more slowly
                server.kill()
                server.start()
            wait_until(oracle.top_up, 60, "the control API")
            _die_at(server, folder, point)
            oracle.wait_for_more(20)
        _rest(server)
    assert_guarantees(server, oracle)
    return oracle


def _die_at(server: Server, folder: Path, point: str) -> None:
    """Arm ``point`` and wait until a process has died there."""
    fired = folder / f"{point}.fired"
    fired.unlink(missing_ok=True)
    (folder / point).touch()
    if point.endswith(AT_ENDS):
        for gateway in ("gateway-0", "gateway-1"):  # both: clients stay with one that lives
            wait_until(lambda name=gateway: _kill(server, name), 30, gateway)  # type: ignore[misc]
    wait_until(fired.exists, 60, f"a process that dies at {point}")


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
    """Wait until the budget is used up while its clients go on asking: nothing of it is lost with those that died.

    The control API may not answer at first: the last that died may have been the controller.
    """

    def used_up() -> bool:
        try:
            budget = capped_budget(server)
        except MofangError:
            return False
        return budget.spent == budget.amount

    wait_until(used_up, 60, "the budget is used up")


def _pause(seconds: float) -> None:
    """Let a moment pass that is chosen by chance: it waits for nothing."""
    time.sleep(seconds)
