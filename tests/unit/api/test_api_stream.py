"""A job's events as they happen, over server-sent events."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import httpx

from platforms import House


def told(lines: Iterator[str]) -> Iterator[tuple[str, int, str]]:
    """Yield type, id and message of every event."""
    found: dict[str, str] = {}
    for line in lines:
        if not line and found:
            yield found["event"], int(found.get("id", 0)), json.loads(found["data"]).get("message", "")
            found = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


def test_events_arrive_as_they_happen_and_the_stream_ends_with_the_job(house: House, remote: httpx.Client) -> None:
    jobs = house.platform.jobs
    job = jobs.submit("train", {}, "key")
    lease = jobs.claim(job.id, "worker", 60)
    assert lease is not None
    jobs.report(lease, "train", 0.1, "epoch 1", {"loss": 0.5})

    def finish() -> None:
        jobs.report(lease, "train", 0.2, "epoch 2")
        jobs.succeed(lease, {})

    with remote.stream("GET", f"/jobs/{job.id}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = told(answer.iter_lines())
        assert next(stream) == ("progress", 1, "epoch 1")
        later = threading.Thread(target=finish)
        later.start()
        assert list(stream) == [("progress", 2, "epoch 2"), ("end", 0, "")]
        later.join()


def test_a_client_that_comes_back_misses_nothing(house: House, ask: Callable[[str], httpx.Client]) -> None:
    jobs = house.platform.jobs
    job = jobs.submit("train", {}, "key")
    lease = jobs.claim(job.id, "worker", 60)
    assert lease is not None
    for number in range(3):
        jobs.report(lease, "train", 0.1, f"epoch {number + 1}")
    jobs.succeed(lease, {})
    admin = ask(house.admin_key)
    for path, headers in ((f"/jobs/{job.id}/stream?after=2", {}), (f"/jobs/{job.id}/stream", {"last-event-id": "2"})):
        answer = admin.get(path, headers=headers)
        assert list(told(iter(answer.text.splitlines()))) == [("progress", 3, "epoch 3"), ("end", 0, "")]
    assert admin.get("/jobs/job_0/stream").json()["code"] == "job.not_found"
    assert ask("").get(f"/jobs/{job.id}/stream").status_code == 401
