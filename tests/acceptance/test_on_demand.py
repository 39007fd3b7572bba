"""More models than there is memory for: loaded when asked, unloaded when others are, and nobody gets a wrong answer."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from nets import scaled

from mofang.surface.server.folders import DataDirectory
from servers import Server, wait_until

MODELS = 3
X = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three endpoints on demand, and no memory: each is unloaded as soon as it is idle."""
    folder = tmp_path_factory.mktemp("crowd")
    server = Server(folder / "data", environ={"MOFANG_ON_DEMAND_BYTES": "1"})
    for number in range(1, MODELS + 1):
        (folder / str(number)).mkdir()
        server.serve(f"m{number}", scaled(folder / str(number), number), limits={"on_demand": True})
    yield server
    server.close()


def ask(server: Server, number: int) -> None:
    assert server.client.serve.predict(f"m{number}", {"x": X}).outputs["y"].tolist() == (number * X).tolist()


def workers(server: Server) -> set[str]:
    return {each.name for each in server.client.operate.status().processes if each.name.startswith("replica/")}


def gone(server: Server) -> None:
    """Return when nothing is loaded."""
    wait_until(lambda: not workers(server), 30)


def test_a_model_is_loaded_when_it_is_asked_and_unloaded_after(crowd: Server) -> None:
    gone(crowd)
    for number in range(1, MODELS + 1):
        ask(crowd, number)
        assert f"replica/m{number}/1/0" in workers(crowd)
    gone(crowd)


def test_a_sleeping_model_is_ready_and_shows_its_signature(crowd: Server) -> None:
    gone(crowd)
    key = {"authorization": f"Bearer {crowd.key}"}
    assert httpx.get(f"{crowd.url}/v2/models/m1/ready", headers=key).status_code == 200
    assert httpx.get(f"{crowd.url}/v2/models/m1", headers=key).json()["inputs"][0]["name"] == "x"
    assert not workers(crowd)


def test_whoever_asks_while_models_come_and_go_is_answered(crowd: Server) -> None:
    failures: list[BaseException] = []

    def client(first: int) -> None:
        try:
            for step in range(4):
                ask(crowd, (first + step) % MODELS + 1)
                time.sleep(0.5 * (step % 3))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=client, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert failures == []


def test_loading_and_unloading_leaves_nothing_behind(crowd: Server) -> None:
    """A15, a short form: descriptors and sockets after some cycles are those before."""
    gateway = crowd.process("gateway-").pid

    def held() -> tuple[int, int]:
        descriptors = list(Path(f"/proc/{gateway}/fd").iterdir())
        return len(descriptors), len(list(DataDirectory(crowd.data).sockets.iterdir()))

    ask(crowd, 1)
    gone(crowd)
    before = held()
    for _ in range(3):
        ask(crowd, 1)
        gone(crowd)
    wait_until(
        lambda: all(now <= then for now, then in zip(held(), before, strict=True)), 10, "what cycles have left behind"
    )


def nursery(server: Server) -> int:
    """Return the pid of the nursery when there is one."""

    def pids() -> list[int]:
        return [each.pid for each in server.client.operate.status().processes if each.name.startswith("nursery/")]

    wait_until(lambda: any(pids()), 30, "a nursery")
    return pids()[0]


def test_workers_are_born_of_a_nursery_and_outlive_it(crowd: Server) -> None:
    gone(crowd)
    first = nursery(crowd)

    def command(pid: int) -> bytes:
        return Path(f"/proc/{pid}/cmdline").read_bytes()

    def was_born() -> bool:
        gone(crowd)
        ask(crowd, 1)
        return command(crowd.process("replica/m1/").pid) == command(first)

    wait_until(was_born, 30, "a worker that is born")
    os.kill(first, signal.SIGKILL)
    ask(crowd, 1)
    ask(crowd, 2)
    wait_until(lambda: nursery(crowd) != first, 30, "another nursery")


def test_a_model_that_is_always_asked_stays_loaded_beside_one_that_is_not(crowd: Server) -> None:
    crowd.client.deploy.roll_out("m3", limits={"on_demand": False})
    ask(crowd, 1)
    wait_until(lambda: workers(crowd) == {"replica/m3/2/0"}, 30)
    ask(crowd, 3)


def test_a_server_that_stops_leaves_no_nursery(crowd: Server) -> None:
    last = Path(f"/proc/{nursery(crowd)}")
    crowd.terminate()
    assert not last.exists()
    crowd.start()
