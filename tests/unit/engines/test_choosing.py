"""How the next token is chosen from logits."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest

from mofang.base.domain.generation import Sampling
from mofang.base.engines.choosing import Chooser

PROBABILITIES = np.array([0.5, 0.25, 0.15, 0.1])
LOGITS = np.log(PROBABILITIES).astype(np.float32) + 3  # whatever is added to all of them changes nothing


def drawn(times: int = 2000, **sampling: object) -> Counter[int]:
    chooser = Chooser(Sampling(seed=1, **sampling))  # type: ignore[arg-type]
    return Counter(chooser.choose(LOGITS).token for _ in range(times))


def test_without_temperature_the_likeliest_is_taken() -> None:
    assert drawn(temperature=0.0) == {0: 2000}


def test_tokens_come_as_often_as_they_are_likely() -> None:
    found = drawn()
    for token, probability in enumerate(PROBABILITIES):
        assert found[token] / 2000 == pytest.approx(probability, abs=0.04)  # over four standard deviations
    sharper = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    assert drawn(temperature=0.5)[0] / 2000 == pytest.approx(sharper[0], abs=0.05)


@pytest.mark.parametrize(
    ("cut", "kept"), [({"top_p": 0.75}, {0, 1}), ({"top_p": 0.76}, {0, 1, 2}), ({"top_p": 0.0}, {0}),
                      ({"top_k": 3}, {0, 1, 2}), ({"top_k": 3, "top_p": 0.8}, {0, 1})]
)  # fmt: skip
def test_cuts_leave_the_likeliest_that_have_so_much_together(cut: dict[str, float], kept: set[int]) -> None:
    assert set(drawn(**cut)) == kept


def test_a_flat_distribution_is_cut_exactly_too() -> None:
    flat = np.zeros(5000, np.float32)
    chooser = Chooser(Sampling(seed=1, top_p=0.9))
    found = {chooser.choose(flat).token for _ in range(4000)}
    assert 2000 < len(found) <= 4500


def test_a_seed_says_the_same_again() -> None:
    said = [[Chooser(Sampling(seed=seed)).choose(LOGITS).token for _ in range(1)] for seed in (7, 7)]
    chooser, other = Chooser(Sampling(seed=7)), Chooser(Sampling(seed=8))
    assert said[0] == said[1]
    assert [chooser.choose(LOGITS).token for _ in range(30)] != [other.choose(LOGITS).token for _ in range(30)]
    assert Chooser(Sampling(seed=-5)).choose(LOGITS).token in range(4)


def test_penalties_are_for_what_was_said() -> None:
    chooser = Chooser(Sampling(temperature=0.0, presence_penalty=0.8))
    assert [chooser.choose(LOGITS).token for _ in range(4)] == [0, 1, 0, 0]  # ln 2 apart: once is enough, for both
    chooser = Chooser(Sampling(temperature=0.0, frequency_penalty=0.8))
    assert [chooser.choose(LOGITS).token for _ in range(4)] == [0, 1, 0, 2]


def test_what_is_told_is_the_models_own_probability() -> None:
    choice = Chooser(Sampling(temperature=0.1, seed=1, logprobs=2)).choose(LOGITS)
    assert choice.logprob == pytest.approx(log(PROBABILITIES[choice.token]), abs=1e-5)
    assert choice.top == ((0, pytest.approx(log(0.5), abs=1e-5)), (1, pytest.approx(log(0.25), abs=1e-5)))
    assert Chooser(Sampling(logprobs=0)).choose(LOGITS).top == ()
