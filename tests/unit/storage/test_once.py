"""Claims and answers that processes share, in files."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mofang.base.domain.errors import KeyReused
from mofang.base.storage.once import Claim, Kept, Once

ONE, TWO = "req_" + "1" * 26, "req_" + "2" * 26


def attempt(once: Once, asked: bytes = b"question", scope: str = "shop", key: str = "k", name: str = ONE) -> object:
    return once.attempt(scope, key, asked, name)


def claim(once: Once, **more: str) -> Claim:
    found = attempt(once, **more)  # type: ignore[arg-type]
    assert isinstance(found, Claim)
    return found


def test_an_answer_is_kept_for_its_question_scope_and_key(tmp_path: Path) -> None:
    once = Once(tmp_path / "once", 60)
    claim(once).finish(b"answer")
    assert attempt(once, name=TWO) == Kept(b"answer")
    assert claim(once, scope="lab", name=TWO).name == TWO
    assert claim(once, key="other", name=TWO).name == TWO
    with pytest.raises(KeyReused, match="'k' was used for another request"):
        attempt(once, b"another question")


def test_who_comes_while_it_is_done_is_told_so(tmp_path: Path) -> None:
    first = claim(Once(tmp_path, 60))
    assert attempt(Once(tmp_path, 60), name=TWO) == "busy"
    with pytest.raises(KeyReused):
        attempt(Once(tmp_path, 60), b"another question")
    first.finish(b"")
    assert attempt(Once(tmp_path, 60), name=TWO) == Kept(b"")


def test_what_was_dropped_may_be_asked_otherwise_and_what_was_left_is_done_under_its_name(tmp_path: Path) -> None:
    once = Once(tmp_path, 60)
    claim(once).drop()
    second = claim(once, name=TWO)
    assert second.name == TWO
    second.leave()
    assert claim(once, name=ONE).name == TWO


def test_the_claim_of_a_killed_process_is_taken_over_under_its_name(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib, signal\n"
        "from mofang.base.storage.once import Once\n"
        f"claim = Once(pathlib.Path(sys.argv[1]), 60).attempt('shop', 'k', b'question', {ONE!r})\n"
        "os.write(claim._descriptor, b'half an ans')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == -9
    found = claim(Once(tmp_path, 60), name=TWO)
    assert found.name == ONE
    found.finish(b"a whole answer")
    assert attempt(Once(tmp_path, 60)) == Kept(b"a whole answer")


def test_of_many_at_once_one_claims(tmp_path: Path) -> None:
    def ask(number: int) -> object:
        found = attempt(Once(tmp_path, 60), name=f"req_{number:026d}")
        if isinstance(found, Claim):
            if number % 2:
                found.drop()
            else:
                found.finish(str(number).encode())
                return number
        return found

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(ask, range(400)))
    (winner,) = [each for each in outcomes if isinstance(each, int)]
    assert {each.answer for each in outcomes if isinstance(each, Kept)} == {str(winner).encode()}


def test_what_is_too_old_counts_no_more_and_is_swept(tmp_path: Path) -> None:
    once = Once(tmp_path, 60)
    claim(once).finish(b"answer")
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    fresh = claim(once, name=TWO)
    assert fresh.name == TWO
    assert once.sweep(10**9) == 0
    fresh.leave()
    os.utime(path, (0, 0))
    assert once.sweep(10**9) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_give_way_when_there_is_too_much(tmp_path: Path) -> None:
    once = Once(tmp_path, 60)
    for number in range(5):
        claim(once, key=str(number)).finish(b"x" * 1000)
    running = claim(once, key="running")
    assert once.sweep(3500) == 2
    assert once.sweep(0) == 3
    running.finish(b"")
    assert attempt(once, key="running") == Kept(b"")
