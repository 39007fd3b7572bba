"""A search for variants that is killed ends as if it had not been; one that is cancelled leaves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from mofang.base.domain.errors import JobCancelled
from mofang.surface.sdk.compress import Variants
from mofang.surface.server.folders import DataDirectory
from servers import Server, wait_until

pytestmark = pytest.mark.timeout(1000)  # a machine that has other work measures for long
RECIPE = """
name = "digits"
[prepare]
source = "sklearn:digits"
[train]
algorithm = "mlp"
hidden = [64]
epochs = 10
"""


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """A server with a trained version."""
    server = start_server()
    server.client.jobs.wait(server.client.train.run(RECIPE).id, timeout_seconds=300)
    return server


def search(server: Server) -> str:
    """Start a search whose outcome depends on sizes and answers alone, which are the same each time."""
    return server.client.compress.run("digits@1", max_drop=0.5, objective="size", trials=3).id


def wait_for(server: Server, job: str, candidates: int) -> None:
    """Wait until so many candidates were tried; the search has not ended then."""

    def tried() -> bool:
        return any(each.data.get("tried") == candidates for each in server.client.jobs.events(job).items)

    wait_until(tried, 300)
    assert server.client.jobs.get(job).state == "running"


def found(server: Server) -> Variants:
    return server.client.compress.variants("digits@1")


def told(server: Server) -> list[tuple[str, bool, int, object]]:
    """Return of each candidate of the newest search what does not depend on time."""
    compared = [(each, each.comparison or {}) for each in found(server).candidates]
    return [(each.told, each.is_picked, kept["size_bytes"], kept["quality"]) for each, kept in compared]


def test_a_search_that_is_killed_twice_ends_with_the_same_pick(server: Server) -> None:
    job = search(server)
    wait_for(server, job, 1)
    os.kill(server.process(f"job/{job}").pid, signal.SIGKILL)
    wait_for(server, job, 2)
    server.kill()
    server.start()
    assert (found(server).registered, found(server).candidates) == ([], [])
    done = server.client.jobs.wait(job, timeout_seconds=400)
    assert done.attempt == 3
    killed = told(server)
    assert len({each[0] for each in killed}) == len(killed) == 3
    asked = [each.data["tried"] for each in server.client.jobs.events(job).items if "tried" in each.data]
    assert asked == [1, 2, 3]  # none was made and measured a second time
    accepted = {each.technique for each in found(server).candidates if each.accepted}
    assert {each.variant for each in found(server).registered} == accepted

    again = server.client.jobs.wait(search(server), timeout_seconds=400)
    assert again.attempt == 1
    assert again.result["picked"] == done.result["picked"]
    assert told(server) == killed


def test_a_search_that_is_cancelled_registers_nothing_and_leaves_no_files(server: Server) -> None:
    job = search(server)
    wait_for(server, job, 1)
    kept = DataDirectory(server.data).jobs / job
    assert kept.is_dir()
    server.client.jobs.cancel(job)
    with pytest.raises(JobCancelled):
        server.client.jobs.wait(job, timeout_seconds=200)
    assert (found(server).registered, found(server).candidates) == ([], [])
    wait_until(lambda: not kept.exists(), 30)
