"""A03: a killed worker fails only what it was computing, and is replaced; a crash loop opens the breaker."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loads import Load
from nets import scaled, slow

from mofang import Client
from mofang.base.domain.errors import MofangError, ReplicaLost, ReplicaUnavailable
from servers import Server, wait_until

ROW = np.ones((1, 4), np.float32)


def test_only_what_was_in_flight_fails_and_a_replacement_comes(server: Server, tmp_path: Path) -> None:
    server.serve("scale", scaled(tmp_path, 1))
    worker = server.process("replica/scale/").pid
    with Load(server, "scale", clients=6) as load:
        load.wait_for_more(50)
        killed = time.monotonic()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: any(sent > killed + 0.05 for sent, _, _ in load.log), 10)
    assert {code for _, _, code in load.failures} <= {"replica.lost"}
    assert len(load.failures) <= 6
    for sent, answered, _ in load.failures:
        assert sent < killed + 0.05
        assert answered - killed < 1.0
    first_after = min(answered for sent, answered, _ in load.log if sent > killed)
    assert first_after - killed < 5.0
    replaced = server.process("replica/scale/")
    assert replaced.pid != worker
    assert replaced.restarts == 1


def test_a_request_in_the_worker_when_it_dies_gets_a_typed_answer_at_once(server: Server, tmp_path: Path) -> None:
    server.serve("slow", slow(tmp_path))
    failures: list[MofangError] = []

    def ask(protocol: str) -> None:
        with Client(server.url, server.key, grpc=server.grpc) as client:
            try:
                client.serve.predict(
                    "slow",
                    {"x": ROW, "steps": np.array([2_000_000])},
                    protocol=protocol,
                    timeout_seconds=60,  # type: ignore[arg-type]
                )
            except MofangError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask, args=(protocol,)) for protocol in ("rest", "grpc")]
    for thread in threads:
        thread.start()
    worker = server.process("replica/slow/").pid
    wait_until(lambda: _cpu_seconds(worker) > 0.8, 30, "the worker to compute")
    killed = time.monotonic()
    os.kill(worker, signal.SIGKILL)
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - killed < 2.0
    assert [type(error) for error in failures] == [ReplicaLost, ReplicaLost]
    assert "died" in str(failures[0])


def test_a_crash_loop_opens_the_breaker_with_a_reason(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path / "scale", 1))
    server.serve("other", scaled(tmp_path / "other", 2))

    def broken() -> bool:
        state = server.process("replica/scale/")
        if state.pid:
            os.kill(state.pid, signal.SIGKILL)
        return state.state == "crash loop"

    wait_until(broken, 40)
    with pytest.raises(ReplicaUnavailable, match="died 5 times within a minute, last with signal 9") as caught:
        wait_until(lambda: server.client.serve.predict("scale", {"x": ROW}, timeout_seconds=1) is None, 10)
    assert caught.value.retry_after_seconds
    assert server.client.serve.predict("other", {"x": ROW}).outputs["y"].tolist() == [[2, 2, 2, 2]]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
