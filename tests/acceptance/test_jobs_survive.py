"""Jobs survive the death of their worker and of the controller, can be cancelled, and are put back by a stop."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from mofang.base.domain.errors import JobCancelled, MofangError
from servers import Server, wait_until

LONG = """
name = "digits"
[prepare]
source = ["sklearn:digits"]
[train]
algorithm = "mlp"
hidden = [128, 128]
epochs = 80
[evaluate]
gate = "accuracy >= 0.8"
"""


def start(server: Server) -> str:
    """Start a training job and wait until it trains."""
    job = server.client.train.run(LONG, filename="long.toml").id
    wait_until(lambda: any(event.stage == "train" for event in server.client.jobs.events(job).items), 30)
    return job


def test_a_job_whose_worker_is_killed_is_done_by_another(start_server: Callable[..., Server]) -> None:
    server = start_server()
    job = start(server)
    os.kill(server.process(f"job/{job}").pid, signal.SIGKILL)
    done = server.client.jobs.wait(job, timeout_seconds=90)
    assert done.state == "succeeded"
    assert done.attempt == 2
    [run] = server.client.train.list_runs()
    assert run.state == "succeeded"


def test_a_job_goes_on_while_the_controller_is_replaced(start_server: Callable[..., Server]) -> None:
    server = start_server()
    job = start(server)
    worker = server.process(f"job/{job}").pid
    os.kill(server.process("controller").pid, signal.SIGKILL)
    os.kill(worker, 0)

    def ended() -> bool:
        with suppress(MofangError):
            return server.client.jobs.get(job).state == "succeeded"
        return False

    wait_until(ended, 90)
    assert server.client.jobs.get(job).attempt == 1


def test_a_job_is_put_back_when_the_server_stops_and_taken_up_when_it_starts(
    start_server: Callable[..., Server],
) -> None:
    server = start_server()
    job = start(server)
    assert server.terminate() == 0
    server.start()
    assert server.client.jobs.wait(job, timeout_seconds=90).state == "succeeded"
    assert len(server.client.train.list_runs()) == 1


def test_a_cancelled_job_ends_soon_and_leaves_no_version(start_server: Callable[..., Server]) -> None:
    server = start_server()
    job = start(server)
    server.client.jobs.cancel(job)
    with pytest.raises(JobCancelled):
        server.client.jobs.wait(job, timeout_seconds=20)
    assert server.client.register.list_models() == []
    [run] = server.client.train.list_runs()
    assert run.state == "cancelled"
