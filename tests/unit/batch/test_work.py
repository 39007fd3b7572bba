"""A batch being answered: tries again, keeps what came, and goes on from there."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mofang.base.domain.errors import JobCancelled
from mofang.base.domain.work import Silent
from mofang.run.batch.lines import Asked
from mofang.run.batch.work import Batch, Reply

PATH = "/v1/completions"
ASKED = [(number, Asked(f"id {number}", PATH, {"number": number})) for number in range(1, 101)]


class Server:
    """Answers as ``script`` says, by the number of the request and of the try."""

    def __init__(self, script: Any = lambda number, tried: Reply(200, {"ok": number})) -> None:
        self.tried: Counter[int] = Counter()
        self.names: dict[int, set[str]] = {}
        self._script = script
        self._lock = threading.Lock()

    def ask(self, path: str, body: dict[str, Any], name: str) -> Reply:
        number = body["number"]
        with self._lock:
            self.tried[number] += 1
            self.names.setdefault(number, set()).add(name)
            tried = self.tried[number]
        reply: Reply = self._script(number, tried)
        return reply


class Stopping(Silent):
    """Asks to stop after so many reports."""

    def __init__(self, after: int) -> None:
        self.left = after

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        self.left -= 1
        if self.left <= 0:
            raise JobCancelled("enough")


def batch(folder: Path, server: Server, progress: Any = None, name: str = "job_1") -> Batch:
    return Batch(name, folder / "kept", server.ask, progress or Silent(), pause=lambda seconds: None)


def test_every_line_is_asked_once_and_answered(tmp_path: Path) -> None:
    server = Server()
    made = batch(tmp_path, server)
    made.answer(ASKED)
    assert {each.custom_id: each.response.body for each in made.answers() if each.response} == {
        f"id {number}": {"ok": number} for number in range(1, 101)
    }
    assert set(server.tried.values()) == {1}
    assert (made.completed, made.failed) == (100, 0)


def test_what_is_to_come_later_is_asked_again_under_the_same_name(tmp_path: Path) -> None:
    def script(number: int, tried: int) -> Reply:
        if tried == 1 and number % 3 == 0:
            return Reply(429, {}, 7.0)
        if tried == 2 and number % 3 == 0:
            raise OSError("gone")
        return Reply(400 if number == 50 else 200, {"number": number})

    server = Server(script)
    made = batch(tmp_path, server)
    made.answer(ASKED)
    assert {number for number, tried in server.tried.items() if tried == 3} == set(range(3, 101, 3))
    assert all(len(names) == 1 for names in server.names.values())
    assert (made.completed, made.failed) == (99, 1)
    [bad] = [each for each in made.answers() if not each.well]
    assert (bad.custom_id, bad.response and bad.response.status_code) == ("id 50", 400)


def test_who_is_never_let_in_is_told_so(tmp_path: Path) -> None:
    made = batch(tmp_path, Server(lambda number, tried: Reply(503, {}, 1.0)))
    made.answer(ASKED[:3])
    assert [(each.response, each.error and each.error["code"]) for each in made.answers()] == [(None, "503")] * 3
    assert (made.completed, made.failed) == (0, 3)


def test_a_batch_that_is_stopped_keeps_what_was_paid_for_and_goes_on(tmp_path: Path) -> None:
    first = Server()
    with pytest.raises(JobCancelled):
        batch(tmp_path, first, Stopping(2)).answer(ASKED)
    kept = {each.custom_id for each in batch(tmp_path, first).answers()}
    assert 2 <= len(kept) < 100
    assert kept == {f"id {number}" for number in first.tried}  # nothing that was computed is lost
    with (tmp_path / "kept").open("ab") as file:
        file.write(b'{"id": "cut by a de')
    second = Server()
    made = batch(tmp_path, second)
    made.answer(ASKED)
    assert {f"id {number}" for number in second.tried} == {each.custom_id for _, each in ASKED} - kept
    assert sorted(each.custom_id for each in made.answers()) == sorted(each.custom_id for _, each in ASKED)
    assert (made.completed, made.failed) == (100, 0)
    assert second.names[100] == (first.names.get(100) or second.names[100])
