"""How much of a score is chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from mofang.make.evaluate.chance import (
    class_intervals,
    compare_classes,
    compare_numbers,
    number_intervals,
)
from mofang.make.evaluate.metrics import score, score_numbers
from mofang.make.evaluate.sklearn import with_probabilities


def test_intervals_of_classes_are_as_wide_as_theory_says() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, 2000)
    predicted = np.where(random.random(2000) < 0.8, truth, (truth + 1) % 3)
    scores = score(truth, predicted, ("a", "b", "c"))
    found = class_intervals(scores)
    deviation = (scores.accuracy * (1 - scores.accuracy) / 2000) ** 0.5
    low, high = found["accuracy"]
    assert low < scores.accuracy < high
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.15)
    assert all(low <= high for low, high in found.values())
    assert found == class_intervals(scores)


def test_intervals_of_numbers_hold_the_estimate() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(size=500)
    predicted = truth + random.normal(scale=0.5, size=500)
    scores = score_numbers(truth, predicted)
    for name, (low, high) in number_intervals(scores, truth, predicted).items():
        assert low < getattr(scores, name) < high


def test_better_means_better_and_not_lucky() -> None:
    right, rival = np.zeros(1000, np.bool_), np.zeros(1000, np.bool_)
    right[:900], rival[:850] = True, True
    found = compare_classes("champion", "m@1", right, rival)
    assert (found.verdict, found.difference, found.only_this_right) == ("better", 0.05, 50)
    assert found.low < 0.05 < found.high
    assert compare_classes("champion", "m@1", rival, right).verdict == "worse"
    nearly = rival.copy()
    nearly[850] = True
    assert compare_classes("champion", "m@1", nearly, rival).verdict == "equal"


def test_regressions_are_compared_on_the_same_rows() -> None:
    random = np.random.default_rng(3)
    truth = random.normal(size=400)
    near, far = truth + random.normal(scale=0.5, size=400), truth + random.normal(scale=0.7, size=400)
    found = compare_numbers("2", "m@2", truth, near, far)
    assert (found.verdict, found.metric) == ("better", "rmse")
    assert found.low < found.difference < found.high < 0
    assert compare_numbers("2", "m@2", truth, far, near).verdict == "worse"
    assert compare_numbers("2", "m@2", truth, near, near).verdict == "equal"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(20, 200), st.integers(0, 99))
def test_areas_and_losses_are_those_of_scikit_learn(classes: int, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), random.integers(0, classes, rows)])
    probabilities = random.dirichlet(np.ones(classes), len(truth))
    labels = tuple(map(str, range(classes)))
    scores = with_probabilities(score(truth, probabilities.argmax(axis=1), labels), truth, probabilities)
    hot = np.eye(classes)[truth]
    assert scores.roc_auc == pytest.approx(reference.roc_auc_score(hot, probabilities, average="macro"))
    assert scores.pr_auc == pytest.approx(reference.average_precision_score(hot, probabilities, average="macro"))
    assert scores.log_loss == pytest.approx(reference.log_loss(truth, probabilities))
    assert scores.balanced_accuracy == pytest.approx(
        reference.balanced_accuracy_score(truth, probabilities.argmax(axis=1))
    )
    assert scores.probabilities is not None
    assert sum(each.rows for each in scores.probabilities.calibration) == len(truth)


def test_honest_confidence_has_no_calibration_error() -> None:
    random = np.random.default_rng(5)
    confidence = random.uniform(0.5, 1, 60_000)
    truth = (random.random(60_000) > confidence).astype(np.int64)
    honest = np.stack([confidence, 1 - confidence], axis=1)
    boastful = np.stack([np.full(60_000, 0.99), np.full(60_000, 0.01)], axis=1)
    scores = score(truth, honest.argmax(axis=1), ("a", "b"))
    assert (with_probabilities(scores, truth, honest).calibration_error or 0) < 0.01
    assert (with_probabilities(scores, truth, boastful).calibration_error or 0) > 0.2
