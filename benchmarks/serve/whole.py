"""The whole server, as ``mofang up`` starts it: how soon it answers, what it holds, and what a second core brings.

A closed loop on two cores cannot have both of them for the servers: the load takes its share. So what is compared is
what a core gives: answers for each second of processor time the server's processes took, all cores busy. One core is
one gateway on core 0, loaded from core 1; two cores are two gateways on both, loaded from both; the second core brings
twice the quotient of the two. What the load took is counted on neither side. What clients saw is printed too.

A gateway answers what a turn brings together, so that the fewer clients it has the more an answer costs. Two gateways
get as many clients each as the one has; what they give with as many together is printed beside.
"""

from __future__ import annotations

import statistics
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import machine
from goals import told
from load import shoot

from models import Model

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from servers import Server

_STARTS = 3
_CLIENTS = 64  # of a gateway


_SHOTS = (
    f"one gateway, {_CLIENTS} clients on the other core",
    f"two gateways, {2 * _CLIENTS} clients on both cores",
    f"two gateways, {_CLIENTS} clients on both cores",
)


def whole(model: Model, folder: Path, scratch: Path, rounds: int, seconds: float) -> list[str]:
    """Return the lines of what is measured of the whole server."""
    with closing(Server(scratch / "first")) as first:
        first.serve("tiny", folder / "model.onnx")
        memory = machine.tree_megabytes(first.pid)
        starts = [_start(first, model) for _ in range(_STARTS)]
    with ExitStack() as stack:
        one = stack.enter_context(closing(Server(scratch / "one", through=("taskset", "-c", "0"))))
        two = stack.enter_context(closing(Server(scratch / "two", "--gateways", "2")))
        for server in (one, two):
            server.serve("tiny", folder / "model.onnx", placement="thread")
        shots = [_each(one, two, model, seconds) for _ in range(rounds)]
    per_core = [statistics.median(column) for column in zip(*(shot[0] for shot in shots), strict=True)]
    rates = [statistics.median(column) for column in zip(*(shot[1] for shot in shots), strict=True)]
    return [
        "the whole server: mofang up, one tiny endpoint",
        f"start to the first answer, s: {', '.join(f'{wall:.2f}' for wall, _ in starts)}; of processor time "
        f"{', '.join(f'{used:.2f}' for _, used in starts)}",
        "thread, JSON, answers for each second of the server's processor time, and what clients saw:",
        *(
            f"{name:<40}{each:>10,.0f}{rate:>12,.0f}/s"
            for name, each, rate in zip(_SHOTS, per_core, rates, strict=True)
        ),
        "",
        told("memory of the whole tree, one tiny endpoint (process), MB", "<=", 250, memory),
        told("start to the first answer, s (median)", "<=", 2.0, statistics.median(wall for wall, _ in starts)),
        told("two cores, two gateways / one core", ">=", 1.7, 2 * per_core[1] / per_core[0]),
    ]


def _start(server: Server, model: Model) -> tuple[float, float]:
    """Stop, start, and ask; return the seconds from the start to the first answer, and those of processor time."""
    server.close()
    began = time.perf_counter()
    server.start()
    headers, body = _request(server, model)
    httpx.post(f"{server.url}/v2/models/tiny/infer", headers=headers, content=body, timeout=30).raise_for_status()
    return time.perf_counter() - began, machine.tree_seconds(server.pid)


def _each(one: Server, two: Server, model: Model, seconds: float) -> tuple[list[float], list[float]]:
    """Load as each of _SHOTS says; return answers for each second of processor time, and those a second."""
    per_core, rates = [], []
    shots = ((one, "1", _CLIENTS), (two, "0,1", 2 * _CLIENTS), (two, "0,1", _CLIENTS))
    for server, cores, clients in shots:
        headers, body = _request(server, model)
        before = machine.tree_seconds(server.pid)
        shot = shoot(cores, int(server.url.rpartition(":")[2]), headers, body, clients, seconds)
        if shot.errors:
            raise RuntimeError(f"{shot.errors} requests failed")
        per_core.append(shot.rate * seconds / max(0.01, machine.tree_seconds(server.pid) - before))
        rates.append(shot.rate)
    return per_core, rates


def _request(server: Server, model: Model) -> tuple[dict[str, str], bytes]:
    headers, body = model.json_request
    return {**headers, "authorization": f"Bearer {server.key}"}, body
