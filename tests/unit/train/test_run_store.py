"""Training runs in the database."""

from dataclasses import replace

import pytest

from mofang.base.domain.errors import RunNotFound
from mofang.base.storage.database import Database
from mofang.make.train.store import RunStore, TrainingRun


def _run(run_id: str, job: str) -> TrainingRun:
    return TrainingRun(run_id, job, "digits", "sha256:aa", 'name = "digits"', "mlp", "running", created_at=1)


def test_runs_are_saved_again_as_they_go_on(database: Database) -> None:
    store = RunStore(database)
    run = store.save(_run("run_1", "job_1"))
    assert store.get("run_1") == run
    curve = ({"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25})
    ended = store.save(replace(run, state="succeeded", curve=curve, conversion={"rows": 359, "batch_sizes": [1, 256]}))
    assert store.get("run_1") == ended


def test_runs_are_listed_newest_first_and_found_by_job(database: Database) -> None:
    store = RunStore(database)
    runs = [store.save(_run(f"run_{number}", f"job_{number % 2}")) for number in range(4)]
    assert store.list() == runs[::-1]
    assert store.list(before="run_3", limit=2) == [runs[2], runs[1]]
    assert store.find_by_job("job_1") == runs[3]
    assert store.find_by_job("job_9") is None


def test_unknown_runs_are_told(database: Database) -> None:
    with pytest.raises(RunNotFound, match="run_9"):
        RunStore(database).get("run_9")
