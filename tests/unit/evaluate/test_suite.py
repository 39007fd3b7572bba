from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import graphs
from mofang.base.domain.errors import InvalidGate, InvalidModel
from mofang.base.domain.work import Silent
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import load_engine
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import evaluate, predict

WEIGHTS = np.eye(4, 3, dtype=np.float32)  # the class of a row is the largest of its first three numbers
LABELS = ("ant", "bee", "cat")


@pytest.fixture
def load(tmp_path: Path) -> Callable[[onnx.ModelProto], Engine]:
    return lambda model: load_engine("onnx", graphs.save(model, tmp_path / "artifact"))


def _rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    features = rng.random((count, 4)).astype(np.float32)
    return features, features[:, :3].argmax(axis=1)


class Watched(Silent):
    """A Progress that remembers."""

    def __init__(self) -> None:
        self.points: list[tuple[str, float]] = []

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        self.points.append((stage, fraction))


def test_the_report_is_of_all_rows_through_the_engine(load: Callable[[onnx.ModelProto], Engine]) -> None:
    features, truth = _rows(700)
    wrong = truth.copy()
    wrong[:70] = (wrong[:70] + 1) % 3
    watched = Watched()
    gate = parse_gate("accuracy >= 0.95")
    report = evaluate(load(graphs.classifier(WEIGHTS)), features, wrong, LABELS, gate, watched)

    assert report.scores.rows == 700
    assert report.scores.accuracy == pytest.approx(0.9)
    assert report.scores.labels == LABELS
    assert (report.passed, report.failures) == (False, ("accuracy 0.9 < 0.95",))
    assert report.gate == "accuracy >= 0.95"
    assert 0 < report.seconds < 10
    assert report.rows_per_second == pytest.approx(700 / report.seconds)
    assert {stage for stage, _ in watched.points} == {"evaluate"}
    fractions = [fraction for _, fraction in watched.points]
    assert len(fractions) == 4
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_classes_by_name_and_by_score_are_understood_too(load: Callable[[onnx.ModelProto], Engine]) -> None:
    features, truth = _rows(50)
    named = load(graphs.classifier(WEIGHTS, names=LABELS))
    assert np.array_equal(predict(named, features, LABELS, Silent()).classes, truth)

    only_scores = graphs.classifier(WEIGHTS)
    del only_scores.graph.output[0]
    assert np.array_equal(predict(load(only_scores), features, LABELS, Silent()).classes, truth)


def test_rows_are_given_the_shape_and_the_batch_the_model_takes(load: Callable[[onnx.ModelProto], Engine]) -> None:
    features, truth = _rows(9)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("Cast", ["flat"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["real", "weights"], ["scores"]),
    ]
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    image = graphs.value("image", (1, 1, 2, 2), TensorProto.DOUBLE)
    model = graphs.model(nodes, [image], [graphs.value("scores", (1, 3))], [weights])
    assert np.array_equal(predict(load(model), features, LABELS, Silent()).classes, truth)


def test_data_and_models_that_do_not_fit_are_refused(load: Callable[[onnx.ModelProto], Engine]) -> None:
    features, truth = _rows(5)
    gate = parse_gate("")
    with pytest.raises(InvalidModel, match=r"rows of 4 numbers, but the model takes x: \[n, 2\] FP32"):
        evaluate(load(graphs.one_node("Relu")), features, truth, LABELS, gate, Silent())
    with pytest.raises(InvalidModel, match=r"3 classes, but the model answers y: \[n, 4\] FP32"):
        evaluate(load(graphs.one_node("Relu", dims=("n", 4))), features, truth, LABELS, gate, Silent())
    wasps = load(graphs.classifier(WEIGHTS, names=("ant", "bee", "wasp")))
    with pytest.raises(InvalidModel, match="answers class 'wasp', which the data does not have"):
        evaluate(wasps, features, truth, LABELS, gate, Silent())
    with pytest.raises(InvalidGate, match="names class 'dog'"):
        evaluate(load(graphs.classifier(WEIGHTS)), features, truth, LABELS, parse_gate("f1[dog] > 0"), Silent())
