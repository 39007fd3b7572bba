from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mofang.make.compress.measure import race
from mofang.make.evaluate.chance import mcnemar


class Clock:
    """Time that passes only when a contestant takes it."""

    def __init__(self) -> None:
        self.now = 0
        self.calls: list[str] = []

    def __call__(self) -> int:
        return self.now

    def runner(self, name: str, *takes_us: int) -> Callable[[], Sequence[int]]:
        """A contestant whose n-th call takes ``takes_us[n % len]``."""

        def run() -> Sequence[int]:
            taken = takes_us[self.calls.count(name) % len(takes_us)] * 1000
            self.now += taken
            self.calls.append(name)
            return [taken]

        return run


def test_contestants_take_turns_in_changing_order() -> None:
    clock = Clock()
    runners = {"a": clock.runner("a", 100), "b": clock.runner("b", 300)}
    timings = race(runners, 0.04, clock)
    assert (timings["a"].median_us, timings["a"].minimum_us) == (100, 100)
    assert (timings["b"].median_us, timings["b"].minimum_us) == (300, 300)
    assert timings["a"].rounds == timings["b"].rounds == 100
    timed = "".join(clock.calls[6:])
    assert timed == "abba" * 50


def test_too_short_a_time_still_gives_enough_rounds() -> None:
    clock = Clock()
    assert race({"a": clock.runner("a", 1_000_000)}, 0.001, clock)["a"].rounds == 15


def test_the_race_goes_on_while_median_and_minimum_disagree() -> None:
    clock = Clock()
    runners = {"steady": clock.runner("steady", 100), "moody": clock.runner("moody", 100, 300, 300)}
    timings = race(runners, 0.03, clock)
    assert (timings["moody"].median_us, timings["moody"].minimum_us) == (300, 100)
    assert timings["steady"].rounds > 200  # three races of 0.03 s, about 90 rounds each


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemar_of_many_rows_neither_overflows_nor_hangs() -> None:
    assert mcnemar(5_000, 5_000) == 1.0
    assert mcnemar(0, 20_000) == 0.0
