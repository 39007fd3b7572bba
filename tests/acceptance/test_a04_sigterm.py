"""A04: SIGTERM finishes what was asked, refuses what is new, and ends with 0; so does `mofang down`."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from nets import slow

from mofang import Client
from mofang.surface.sdk.prediction import Prediction
from servers import Server, wait_until

STEPS = np.array([60_000])  # some seconds


def test_requests_in_flight_and_queued_end_and_the_exit_code_is_0(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server()
    server.serve("slow", slow(tmp_path))
    answers: list[Prediction] = []

    def ask(protocol: str) -> None:
        with Client(server.url, server.key, grpc=server.grpc) as client:
            inputs = {"x": np.ones((1, 4), np.float32), "steps": STEPS}
            answers.append(client.serve.predict("slow", inputs, protocol=protocol, timeout_seconds=30))  # type: ignore[arg-type]

    threads = [threading.Thread(target=ask, args=(protocol,)) for protocol in ("rest", "grpc", "rest")]
    with socket.create_connection(_address(server)) as idle, httpx.Client(base_url=server.url) as probe:
        assert probe.get("/v2/health/ready").status_code == 200
        for thread in threads:
            thread.start()
        wait_until(lambda: 'mofang_serve_in_flight{gateway="gateway-0"} 3' in _metrics(server), 10)
        began = time.monotonic()
        ended: list[int] = []
        stopping = threading.Thread(target=lambda: ended.append(server.terminate()))
        stopping.start()
        wait_until(lambda: httpx.get(f"{server.url}/v2/health/ready").status_code == 503, 2, "readiness to fail")
        assert time.monotonic() - began < 2.0
        refused = httpx.post(
            f"{server.url}/v2/models/slow/infer",
            headers={"authorization": f"Bearer {server.key}"},
            json={"inputs": []},
        )
        assert refused.status_code in (400, 503)
        for thread in threads:
            thread.join(40)
        assert len(answers) == 3
        stopping.join(20)
        assert ended == [0]
        assert idle.recv(1) == b""  # an idle connection was closed, and did not hold the server up
    assert not (server.data / "run.json").exists()


def test_a_stopped_server_leaves_no_process(start_server: Callable[..., Server]) -> None:
    server = start_server()
    pids = [process.pid for process in server.client.operate.status().processes]
    assert len(pids) >= 2
    assert server.terminate() == 0
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def _address(server: Server) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    return host, int(port)


def _metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text
