"""Whoever guesses has to wait, longer each time."""

from __future__ import annotations

from mofang.base.users.backoff import FREE_FAILURES, LONGEST_SECONDS, Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_few_failures_are_free_and_each_further_one_doubles_the_wait() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    waits = []
    for _ in range(FREE_FAILURES + 14):
        backoff.failed("ada")
        waits.append(backoff.wait_seconds("ada"))
        clock.now += waits[-1]
        assert backoff.wait_seconds("ada") == 0
    assert waits[: FREE_FAILURES - 1] == [0] * (FREE_FAILURES - 1)
    assert waits[FREE_FAILURES - 1 :][:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == LONGEST_SECONDS
    assert backoff.wait_seconds("bob") == 0


def test_a_success_forgets_the_failures() -> None:
    backoff = Backoff(Clock())
    for _ in range(FREE_FAILURES):
        backoff.failed("ada")
    backoff.succeeded("ada")
    assert backoff.wait_seconds("ada") == 0
    backoff.failed("ada")
    assert backoff.wait_seconds("ada") == 0


def test_memory_is_bounded_and_keeps_who_failed_last() -> None:
    backoff = Backoff(Clock())
    for _ in range(FREE_FAILURES):
        backoff.failed("ada")
    for number in range(10_000):
        backoff.failed(f"user {number}")
        if number == 5_000:
            backoff.failed("ada")
    assert len(backoff._failures) == 10_000
    assert backoff.wait_seconds("ada") > 0
