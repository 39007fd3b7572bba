"""Scores, gates, reports and cards of predicted numbers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    r2_score,
)

import graphs
from mofang.base.domain.errors import InvalidGate, InvalidModel
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion
from mofang.base.domain.tensors import Signature
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.base.storage.database import Database
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.metrics import score_numbers
from mofang.make.evaluate.report import RegressionScores, Report
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.evaluate.suite import evaluate

TRUTH = np.array([3.0, -0.5, 2.0, 7.0, 0.0])
ANSWERS = np.array([2.5, 0.0, 2.0, 8.0, 0.25])


@pytest.fixture
def scores() -> RegressionScores:
    return score_numbers(TRUTH, ANSWERS)


@pytest.mark.parametrize(
    ("truth", "answers"),
    [(TRUTH, ANSWERS), (TRUTH, TRUTH), (np.full(4, 2.0), np.full(4, 2.0)), (np.full(4, 2.0), np.full(4, 3.0))],
    ids=["some error", "none", "constant and right", "constant and wrong"],
)
def test_scores_are_those_of_scikit_learn(truth: np.ndarray, answers: np.ndarray) -> None:
    found = score_numbers(truth, answers)
    assert found.mse == pytest.approx(mean_squared_error(truth, answers))
    assert found.rmse == pytest.approx(mean_squared_error(truth, answers) ** 0.5)
    assert found.mae == pytest.approx(mean_absolute_error(truth, answers))
    assert found.r2 == pytest.approx(r2_score(truth, answers))
    assert found.mape == pytest.approx(mean_absolute_percentage_error(truth, answers))
    assert sum(found.residuals.counts) == found.rows == len(truth)


def test_residuals_say_which_way_answers_are_off(scores: RegressionScores) -> None:
    found = scores.residuals
    assert (found.smallest, found.median, found.largest) == (-0.5, 0.25, 1.0)


def test_gates_of_numbers_are_not_bounded(scores: RegressionScores) -> None:
    assert parse_gate("rmse <= 60 and r2 >= -1 and mape > 1e3 and mae < 1").failures(scores) == ()
    assert parse_gate("mse <= 0.3 and r2 >= 0.9").failures(scores) == ("mse 0.3125 > 0.3",)


@pytest.mark.parametrize("text", ["rmse <= nan", "mse < inf", "rmse[3] < 1", "rsme < 1"])
def test_what_is_no_gate_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(InvalidGate):
        parse_gate(text)


def test_metrics_of_the_other_task_are_refused_before_anything_is_computed() -> None:
    with pytest.raises(InvalidGate, match=r"'accuracy', but the data's target holds numbers") as caught:
        parse_gate("accuracy >= 0.8").check_labels(())
    assert "mse, rmse, mae, r2, mape" in str(caught.value.hint)
    with pytest.raises(InvalidGate, match="'rmse', but the data's target holds classes"):
        parse_gate("rmse <= 3").check_labels(("a", "b"))


def test_the_report_is_kept_and_comes_back_as_it_was(scores: RegressionScores, database: Database) -> None:
    store = EvaluationStore(database)
    report = Report(scores, 0.5, "rmse <= 1", ())
    kept = store.record("prices", "sha256:aa", "sha256:bb", report)
    assert store.get(kept.id).report == report
    assert set(report.metrics) == {"mse", "rmse", "mae", "r2", "mape"}


def test_the_card_tells_a_regression(scores: RegressionScores) -> None:
    artifact = Artifact("onnx", (), Signature((), ()), ())
    version = ModelVersion("prices", 1, "sha256:aa", artifact, Lineage("train"), 0)
    card = model_card(version, "data", Report(scores, 0.5))
    assert "pipeline_tag: tabular-regression" in card
    assert "| MSE | RMSE | MAE | R² | MAPE |" in card
    assert "half of the answers lie between +0 and +0.5 of the truth" in card
    assert "accuracy" not in card


def _sums(width: int) -> onnx.ModelProto:
    """``y`` [n, width]: the sum of the three numbers of a row."""
    weights = numpy_helper.from_array(np.ones((3, width), np.float32), "weights")
    node = helper.make_node("MatMul", ["x", "weights"], ["y"])
    return graphs.model([node], [graphs.value("x", ("n", 3))], [graphs.value("y", ("n", width))], [weights])


def test_one_number_for_each_row_is_a_regression_whatever_it_is_called(tmp_path: Path) -> None:
    engine = load_engine("onnx", graphs.save(_sums(1), tmp_path / "artifact"))
    features = np.arange(12, dtype=np.float32).reshape(4, 3)
    report = evaluate(engine, features, features.sum(axis=1), (), parse_gate("mse <= 0"), Silent())
    assert report.passed
    assert isinstance(report.scores, RegressionScores)
    wide = load_engine("onnx", graphs.save(_sums(2), tmp_path / "wide"))
    with pytest.raises(InvalidModel, match="target is a number, but the model answers"):
        evaluate(wide, features, features[:, 0], (), parse_gate(""), Silent())
    with pytest.raises(InvalidModel, match="answers nan for row 0"):
        evaluate(engine, features * np.nan, features[:, 0], (), parse_gate(""), Silent())
