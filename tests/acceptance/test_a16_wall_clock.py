"""A16: the wall clock is set an hour forth or back under a running server: no limit or quota is reset twice, deadlines
and jobs go on, and the ledger keeps its order."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import DeadlineExceeded, ExpiredKey, MofangError
from mofang.base.domain.work import JOB_ENDED
from servers import Server, wait_until

X = np.ones((1, 4), np.float32)
HOUR = 3600.0
SHIFTED = str(Path(__file__).parents[1] / "shiftedclock")
LONG = """
name = "slow-digits"
[prepare]
source = ["sklearn:digits"]
[train]
algorithm = "mlp"
hidden = [128, 128]
epochs = 80
"""
Set = Callable[[float], None]


def _half_an_hour_before_a_month() -> float:
    """Seconds from now to half an hour before some month begins."""
    now = dt.datetime.now(dt.UTC)
    begins = dt.datetime(now.year + 1, 1, 1, tzinfo=dt.UTC)
    return begins.timestamp() - HOUR / 2 - now.timestamp()


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Set]]:
    """A server whose clock stands half an hour before midnight of New Year's Eve, and what sets it from there."""
    folder, base = tmp_path_factory.mktemp("clock"), _half_an_hour_before_a_month()

    def set_clock(seconds: float) -> None:
        partial = folder / "shift.partial"
        partial.write_text(str(base + seconds))
        partial.replace(folder / "shift")
        time.sleep(0.05)  # until every process has looked

    set_clock(0)
    environ = {"PYTHONPATH": SHIFTED, "MOFANG_TEST_CLOCK": str(folder / "shift")}
    server = Server(folder / "data", environ=environ)
    server.serve("scale", scaled(folder, 2))
    yield server, set_clock
    server.close()


def asked(client: Client, count: int) -> list[str]:
    """What becomes of so many requests."""
    found = []
    for _ in range(count):
        try:
            client.serve.predict("scale", {"x": X})
            found.append("ok")
        except MofangError as error:
            found.append(error.code)
    return found


def test_a_rate_is_not_given_back_by_the_clock(shifted: tuple[Server, Set]) -> None:
    server, set_clock = shifted
    server.client.identity.create_project("rated")
    server.client.identity.set_limits("project", "rated", requests_per_minute=3)
    with Client(server.url, server.client.identity.create_key("rated").key) as client:
        set_clock(0)
        began = time.monotonic()
        assert asked(client, 3) == ["ok"] * 3
        answers = []
        for seconds in (HOUR, 0, -HOUR, 0):
            set_clock(seconds)
            answers += asked(client, 1)
        earned = int((time.monotonic() - began) * 3 / 60)  # by real time, on a machine that is that slow
        assert answers.count("ok") <= earned
        assert set(answers) <= {"ok", "limit.rate"}


def test_a_quota_of_a_month_is_reset_once_by_the_next_month(shifted: tuple[Server, Set]) -> None:
    server, set_clock = shifted
    server.client.identity.create_project("monthly")
    with Client(server.url, server.client.identity.create_key("monthly").key) as client:
        set_clock(0)
        server.client.budget.set("project", "monthly", 3, "requests")
        heard = {}
        for step, seconds in enumerate((0, -HOUR, HOUR, 0, HOUR, 2 * HOUR, -HOUR)):
            set_clock(seconds)
            heard[step] = asked(client, 4).count("ok")
            server.client.operate.status()
    # December, earlier in December, January, December again, January again, later in January, December
    assert heard == {0: 3, 1: 0, 2: 3, 3: 0, 4: 0, 5: 0, 6: 0}


def test_deadlines_and_keys_keep_to_the_clock_they_are_of(shifted: tuple[Server, Set]) -> None:
    server, set_clock = shifted
    set_clock(0)
    hour = server.client.identity.create_key("default", expires_in_seconds=1800)
    with Client(server.url, hour.key) as client:
        assert asked(client, 1) == ["ok"]
        set_clock(HOUR)
        assert asked(client, 1) == [ExpiredKey.code]  # a date is a date
        set_clock(0)
    with Client(server.url, server.key) as client:
        for seconds in (HOUR, -HOUR, 0):
            set_clock(seconds)
            assert asked(client, 2) == ["ok"] * 2, "deadlines are of the monotonic clock"
    assert DeadlineExceeded.code not in asked(server.client, 3)


def test_a_job_that_runs_is_not_taken_for_dead(shifted: tuple[Server, Set]) -> None:
    server, set_clock = shifted
    set_clock(0)
    job = server.client.train.run(LONG, filename="long.toml").id
    wait_until(lambda: server.client.jobs.get(job).stage == "train", 60)
    for seconds in (HOUR, -HOUR, HOUR, 0):
        set_clock(seconds)
        told = len(server.client.jobs.events(job).items)
        wait_until(lambda: len(server.client.jobs.events(job).items) > told or _ended(server, job), 30)  # noqa: B023
    done = server.client.jobs.wait(job, timeout_seconds=90)
    assert (done.state, done.attempt) == ("succeeded", 1)


def _ended(server: Server, job: str) -> bool:
    return server.client.jobs.get(job).state in JOB_ENDED


def test_the_ledger_keeps_the_order_in_which_things_happened(shifted: tuple[Server, Set]) -> None:
    server, set_clock = shifted
    server.client.identity.create_project("ordered")
    with Client(server.url, server.client.identity.create_key("ordered").key) as client:
        for seconds in (0, HOUR, -HOUR, HOUR, 0):
            set_clock(seconds)
            rows = 1 + len([*server.client.meter.events(project="ordered")]) // 5
            client.serve.predict("scale", {"x": np.ones((rows, 4), np.float32)})
            wait_until(lambda: _rows(server) and _rows(server)[-1] == rows, 10.0)  # noqa: B023
    assert _rows(server) == [1, 2, 3, 4, 5]
    assert server.client.audit.verify().records > 0
    set_clock(0)


def _rows(server: Server) -> list[int]:
    return [event.quantity for event in server.client.meter.events(project="ordered") if event.meter == "rows"]
