"""The learning rate, step by step."""

import pytest

from mofang.make.recipe import Dense
from mofang.make.train.rates import Rates, epochs_since_best, falls


def rates(**keys: object) -> list[float]:
    """Return the rate of each step of four epochs of five steps."""
    plan = Rates(Dense(epochs=4, learning_rate=1.0, **keys), 5)  # type: ignore[arg-type]
    return [plan.rate(step) for step in range(20)]


def test_without_decay_it_stays() -> None:
    assert rates() == [1.0] * 20


def test_it_grows_from_zero_while_it_warms_up() -> None:
    assert rates(warmup_epochs=1)[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_it_falls_by_steps() -> None:
    assert rates(decay="step", decay_epochs=2, decay_factor=0.5) == [1.0] * 10 + [0.5] * 10


def test_it_falls_along_a_cosine_to_almost_zero() -> None:
    found = rates(decay="cosine", warmup_epochs=1)
    assert found[5] == 1.0
    assert found[5:] == sorted(found[5:], reverse=True)
    assert found[12] == pytest.approx(0.552, abs=0.001)
    assert 0 < found[-1] < 0.02


def test_it_falls_on_every_plateau() -> None:
    plan = Rates(Dense(decay="plateau", decay_factor=0.5), 5)
    assert [plan.rate(7, count) for count in (0, 1, 2)] == [0.001, 0.0005, 0.00025]
    assert falls([], 2) == 0
    assert falls([3, 2, 1], 2) == 0
    assert falls([3, 2, 2, 2], 2) == 1
    assert falls([3, 2, 2, 2, 2, 2], 2) == 2
    assert falls([3, 4, 2, 4, 1], 2) == 0


def test_the_first_of_equal_losses_is_the_best() -> None:
    assert epochs_since_best([3.0, 1.0, 2.0, 1.0]) == 2
