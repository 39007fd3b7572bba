"""Quotes: what a training is expected to take, beside what it took."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mofang.base.domain.work import Silent
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import DecisionTree, Dense, LightGBM, LogisticRegression, RandomForest, ResNet, Train, XGBoost
from mofang.make.train.catalog import trainer
from mofang.make.train.quote import Estimate, estimate


@pytest.fixture(scope="module")
def digits() -> Examples:
    bunch = load_digits()
    return examples_of(np.tile(bunch.data.astype(np.float32), (8, 1)), np.tile(bunch.target, 8))


def quoted(spec: Train, examples: Examples) -> Estimate:
    """Estimate what a recipe takes."""
    return estimate(spec, examples, trainer(spec), Silent())


@pytest.mark.parametrize(
    "spec",
    [
        LogisticRegression(epochs=30), DecisionTree(max_depth=16), RandomForest(trees=60), Dense(epochs=12),
        LightGBM(rounds=30, early_stopping=0), XGBoost(rounds=20, early_stopping=0),
    ],
    ids=lambda spec: spec.algorithm,
)  # fmt: skip
def test_the_estimate_is_of_the_size_of_what_comes(digits: Examples, spec: Train) -> None:
    found = quoted(spec, digits)
    took = trainer(spec)(spec, digits, Silent()).seconds
    assert took / 6 < found.seconds < took * 6  # tests share their machine: the benchmark measures how close it is
    assert found.rows == len(digits.features)
    assert found.memory_bytes > 50 << 20
    assert found.calibration_seconds > 0


def test_twice_as_long_is_quoted_twice_as_long(digits: Examples) -> None:
    short, long = (quoted(Dense(epochs=epochs), digits).seconds for epochs in (50, 500))
    assert 4 < long / short < 25


def test_a_network_tells_its_size_without_being_made(digits: Examples) -> None:
    spec = ResNet(blocks=(1,), width=4, epochs=1)
    found = quoted(spec, examples_of(digits.features[:600].reshape(-1, 8, 8), digits.target[:600]))
    net = trainer(spec)(spec, examples_of(digits.features[:100], digits.target[:100]), Silent()).pipeline
    assert found.parameters == sum(weight.numel() for weight in net.parameters())
    assert found.model_bytes == 4 * found.parameters
