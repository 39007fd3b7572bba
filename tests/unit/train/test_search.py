"""The search for better values: real trainings, kept, given up, resumed."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.datasets import load_iris

from mofang.base.domain.errors import InvalidRecipe, TrainingFailed
from mofang.base.domain.work import Silent
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Dense, LogisticRegression, Search, Transformer, parse_recipe
from mofang.make.train.catalog import searcher, trainer
from mofang.make.train.optuna import Found

SPEC = Dense(epochs=6, batch_size=16, validation_fraction=0.3, hidden=(8,))
SPACE = {"learning_rate": {"low": 1e-5, "high": 0.1, "log": True}, "hidden": [[4], [16, 8]]}


@pytest.fixture(scope="module")
def iris() -> Examples:
    bunch = load_iris()
    return examples_of(bunch.data.astype("float32"), bunch.target)


def hunt(iris: Examples, search: Search, spec: Any = SPEC, **options: Any) -> Found:
    """Search with the real trainer."""
    found = searcher()(search, spec, trainer(spec), iris, Silent(), **options)
    assert isinstance(found, Found)
    return found


def test_the_best_of_all_trials_is_kept_with_its_values(iris: Examples) -> None:
    kept: list[int] = []
    found = hunt(iris, Search(trials=10, space=SPACE), keep=lambda trials: kept.append(len(trials)))
    assert kept == list(range(1, 11))
    complete = [trial for trial in found.trials if trial["state"] == "complete"]
    best = min(complete, key=lambda trial: float(trial["loss"]))
    assert best["loss"] < max(trial["loss"] for trial in complete) / 1.5
    assert found.spec == Dense(
        epochs=6, batch_size=16, validation_fraction=0.3, hidden=tuple(best["keys"]["hidden"]),
        learning_rate=best["keys"]["learning_rate"],
    )  # fmt: skip
    assert found.model.curve[-1]["loss"] == best["loss"]
    assert found.model.network == trainer(found.spec)(found.spec, iris, Silent()).network
    assert all(1e-5 <= trial["keys"]["learning_rate"] <= 0.1 and trial["seconds"] > 0 for trial in found.trials)


def test_the_same_seed_tries_the_same_values(iris: Examples) -> None:
    first, again = (hunt(iris, Search(trials=4, space=SPACE)).trials for _ in range(2))
    assert [trial["keys"] for trial in first] == [trial["keys"] for trial in again]
    assert [trial["keys"] for trial in hunt(iris, Search(trials=4, seed=1, space=SPACE)).trials] != [
        trial["keys"] for trial in first
    ]


def test_trials_that_are_clearly_worse_are_given_up(iris: Examples) -> None:
    trials = hunt(iris, Search(trials=16, space=SPACE)).trials
    assert {"complete", "pruned"} == {trial["state"] for trial in trials}


def test_a_search_that_was_killed_goes_on(iris: Examples) -> None:
    done = hunt(iris, Search(trials=4, space=SPACE)).trials
    found = hunt(iris, Search(trials=6, space=SPACE), earlier=done)
    assert found.trials[:4] == done
    assert len(found.trials) == 6
    only_earlier = hunt(iris, Search(trials=4, space=SPACE), earlier=done)  # trains the best again, for its weights
    assert only_earlier.model.curve[-1]["loss"] == min(trial["loss"] for trial in done if trial["loss"] is not None)


def test_time_is_a_budget_too_but_one_trial_is_made(iris: Examples) -> None:
    assert len(hunt(iris, Search(trials=500, minutes=1e-6, space=SPACE)).trials) == 1


def test_trials_that_fail_do_not_end_the_search(iris: Examples) -> None:
    space = {"width": [6, 30], "heads": [4, 3]}  # 30 and 6 are no multiples of 4
    spec = Transformer(epochs=1, width=12, layers=1)
    trials = hunt(iris, Search(trials=8, space=space), spec).trials
    failed = [trial for trial in trials if trial["state"] == "failed"]
    assert failed
    assert all(trial["keys"]["heads"] == 4 and "multiple of heads" in trial["error"] for trial in failed)
    with pytest.raises(TrainingFailed, match="none of 2 trials"):
        hunt(iris, Search(trials=2, space={"width": [6], "heads": [4]}), spec)


def test_algorithms_of_other_libraries_are_searched_alike(iris: Examples) -> None:
    spec = LogisticRegression(epochs=2)
    found = hunt(iris, Search(trials=3, space={"epochs": {"low": 1, "high": 30}}), spec)
    assert all(isinstance(trial["keys"]["epochs"], int) for trial in found.trials)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("learning_rat = [0.1]", "learning_rat is no key of algorithm 'dense'; did you mean 'learning_rate'?"),
        ("learning_rate = []", "learning_rate has no value to try"),
        ("learning_rate = [0.1, 'x']", "learning_rate must be a number above 0 to 10, got 'x'"),
        ("learning_rate = { low = 0.1, high = 20.0 }", "learning_rate must be a number above 0 to 10, got 20.0"),
        ("learning_rate = { low = 0.2, high = 0.1 }", "learning_rate must have numbers low < high, got {'low': 0.2"),
        ("dropout = { low = 0, high = 0.5, log = true }", "dropout must have low above 0, since log is true"),
        ("learning_rate = 0.1", "learning_rate must be a list of values, or { low = ..., high = ..., log = true }"),
        ("epochs = { low = 1.5, high = 9 }", "epochs must be an integer from 1 to 100000, got 1.5"),
    ],
)
def test_a_space_that_cannot_be_tried_is_refused_by_its_line(line: str, message: str) -> None:
    text = f"name='a'\nprepare.source='sklearn:iris'\ntrain.algorithm='dense'\n[search.space]\n{line}\n"
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(text, "a.toml")
    assert caught.value.message.startswith(f"a.toml line 5: [search.space] {message}")
