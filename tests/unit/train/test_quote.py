"""Quotes: what a training is expected to take. Time is told to them: no test waits for a clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mofang.base.domain.work import Progress, Silent
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import (
    DecisionTree,
    Dense,
    Keras,
    LightGBM,
    LogisticRegression,
    RandomForest,
    ResNet,
    Train,
    XGBoost,
)
from mofang.make.train.catalog import trainer
from mofang.make.train.model import TrainedModel, Trainer
from mofang.make.train.quote import estimate


@pytest.fixture(scope="module")
def digits() -> Examples:
    bunch = load_digits()
    return examples_of(np.tile(bunch.data.astype(np.float32), (8, 1)), np.tile(bunch.target, 8))


def timed(seconds: Callable[[int, int], float]) -> Trainer:
    """Return the true trainer, with its time told by a clock: ``seconds(length, rows)``, noise left out."""

    def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
        length = getattr(spec, spec.length) if spec.length else 1
        return replace(trainer(spec)(spec, examples, progress), seconds=seconds(length, len(examples.features)))

    return train


@pytest.mark.parametrize("epochs", [50, 500])
def test_fixed_and_repeated_work_are_told_apart(digits: Examples, epochs: int) -> None:
    def seconds(length: int, rows: int) -> float:
        return (3 + 0.25 * length) * rows / 1_000

    found = estimate(Dense(epochs=epochs), digits, timed(seconds), Silent())
    assert found.seconds == pytest.approx(seconds(epochs, len(digits.features)))


def test_weights_of_a_network_that_ones_own_code_builds_are_not_counted(digits: Examples) -> None:
    def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
        return TrainedModel(None, (), 1.0)

    found = estimate(Keras(code="import keras", name="build", epochs=3), digits, train, Silent())
    assert (found.seconds > 0, found.parameters, found.model_bytes) == (True, 0, 0)


def test_trees_ask_more_questions_the_more_rows_there_are(digits: Examples) -> None:
    found = estimate(DecisionTree(max_depth=4), digits, timed(lambda _, rows: rows * math.log2(rows)), Silent())
    assert found.seconds == pytest.approx(len(digits.features) * math.log2(len(digits.features)))


def test_the_sample_grows_until_a_training_is_long_enough_to_measure(digits: Examples) -> None:
    asked: list[int] = []

    def seconds(length: int, rows: int) -> float:
        asked.append(rows)
        return rows / 6_000  # what the estimate first takes, 2,048 rows, is over in a third of a second

    found = estimate(LogisticRegression(epochs=30), digits, timed(seconds), Silent())
    assert found.seconds == pytest.approx(len(digits.features) / 6_000, rel=0.01)
    assert max(asked) > 3_600


@pytest.mark.parametrize(
    "spec",
    [
        LogisticRegression(epochs=30), DecisionTree(max_depth=16), RandomForest(trees=60), Dense(epochs=12),
        LightGBM(rounds=30, early_stopping=0), XGBoost(rounds=20, early_stopping=0),
    ],
    ids=lambda spec: spec.algorithm,
)  # fmt: skip
def test_every_algorithm_is_quoted(digits: Examples, spec: Train) -> None:
    found = estimate(spec, digits, trainer(spec), Silent())  # how close it comes is measured by `make bench-train`
    assert found.seconds > 0
    assert found.rows == len(digits.features)
    assert found.memory_bytes > 50 << 20
    assert found.calibration_seconds > 0


def test_a_network_tells_its_size_without_being_made(digits: Examples) -> None:
    spec = ResNet(blocks=(1,), width=4, epochs=1)
    sample = examples_of(digits.features[:600].reshape(-1, 8, 8), digits.target[:600])
    found = estimate(spec, sample, trainer(spec), Silent())
    net = trainer(spec)(spec, examples_of(digits.features[:100], digits.target[:100]), Silent()).pipeline
    assert found.parameters == sum(weight.numel() for weight in net.parameters())
    assert found.model_bytes == 4 * found.parameters
