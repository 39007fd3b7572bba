"""A training whose worker is killed goes on from its checkpoint, to the very weights of one that was left alone."""

from __future__ import annotations

import os
import signal

import pytest

from mofang.base.domain.work import JobEvent
from servers import Server, wait_until

RECIPE = """
name = "{name}"
[prepare]
source = "sklearn:digits"
limit = 1000
[prepare.augment]
crop = 1
[train]
algorithm = "cnn"
channels = [8, 16]
dropout = 0.2
epochs = 40
batch_size = 64
decay = "cosine"
seed = 3
"""


def epochs(events: list[JobEvent]) -> list[int]:
    """Return the epochs that were told, in the order they were."""
    return [int(event.data["epoch"]) for event in events if "epoch" in event.data]


def _kept_after_an_epoch(server: Server, job: str) -> bool:
    ended = [event.at for event in server.client.jobs.events(job).items if event.data.get("epoch") == 1]
    kept = [path.stat().st_mtime_ns // 1000 for path in (server.data / "jobs" / job).rglob("checkpoint")]
    return bool(ended) and max(kept, default=0) > ended[0]


@pytest.mark.timeout(300)
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(server: Server) -> None:
    client = server.client
    alone = client.jobs.wait(client.train.run(RECIPE.format(name="alone")), timeout_seconds=140)
    killed = client.train.run(RECIPE.format(name="killed")).id
    wait_until(lambda: _kept_after_an_epoch(server, killed), 100, "a checkpoint that is newer than the first epoch")
    os.kill(server.process(f"job/{killed}").pid, signal.SIGKILL)
    done = client.jobs.wait(killed, timeout_seconds=140)

    assert done.attempt == 2
    assert done.result["digest"] == alone.result["digest"]
    told = epochs(client.jobs.events(killed).items)
    assert told.count(1) == 1  # it did not begin from the beginning
    one, other = (client.train.get_run(str(job.result["run"])) for job in (alone, done))
    assert [point["loss"] for point in one.curve] == [point["loss"] for point in other.curve]
    assert other.curve[-1]["seconds"] > other.curve[0]["seconds"] > 0
