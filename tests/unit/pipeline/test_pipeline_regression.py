"""From a recipe to a version that answers a number."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched import Watched

from mofang.base.domain.errors import GateFailed, InvalidDataset, InvalidGate, InvalidRecipe, NoVariant
from mofang.base.domain.names import VersionRef
from mofang.make.evaluate.report import RegressionScores
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import load_split
from mofang.make.workshop import Workshop

EXAMPLE = (Path(__file__).parents[3] / "examples" / "diabetes.toml").read_text("utf-8")


def _train(tools: Workshop, algorithm: str, gate: str = "", more: str = "", task: str = "auto") -> dict[str, Any]:
    recipe = (
        f'name = "diabetes"\n[prepare]\nsource = "sklearn:diabetes"\ntask = "{task}"\n'
        f'[train]\nalgorithm = "{algorithm}"\n{more}\n[evaluate]\ngate = "{gate}"\n'
    )
    return JOB_KINDS["train"]({"recipe": recipe, "filename": "diabetes.toml"}, tools, Watched())


def test_the_example_passes_its_gate_and_answers_numbers(tools: Workshop) -> None:
    result = JOB_KINDS["train"]({"recipe": EXAMPLE, "filename": "diabetes.toml"}, tools, Watched())
    run = tools.runs.get(result["run"])
    scores = tools.evaluations.get(run.evaluation).report.scores
    assert isinstance(scores, RegressionScores)
    assert run.conversion["compared"] == "values"
    assert run.conversion["labels_equal"] == run.conversion["rows"] == scores.rows == 90
    version = tools.registry.get(VersionRef.parse("diabetes@1"))
    assert version.metrics["rmse"] == scores.rmse < 60
    assert str(version.artifact.signature.outputs[0]) == "value: [n] FP32"
    features, truth = load_split(tools.blobs, tools.datasets.get(run.dataset), "test")
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        answers = engine.infer({"features": features})["value"]
    assert np.sqrt(((answers - truth) ** 2).mean()) == pytest.approx(scores.rmse, rel=1e-5)


@pytest.mark.trains("linear_regression")
@pytest.mark.parametrize("algorithm", ["linear_regression", "decision_tree", "random_forest"])
def test_each_regression_is_made_alike_twice_and_served_by_scikit_learn_too(tools: Workshop, algorithm: str) -> None:
    trees = "trees = 20" if algorithm == "random_forest" else ""
    first = _train(tools, algorithm, "r2 >= 0.2", trees)
    assert _train(replace(tools, job="job_2"), algorithm, "r2 >= 0.2", trees)["digest"] == first["digest"]
    native = _train(replace(tools, job="job_3"), algorithm, "r2 >= 0.2", trees + '\n[convert]\nformat = "skops"')
    version = tools.registry.get(VersionRef("diabetes", str(native["version"])))
    assert (version.artifact.engine, str(version.artifact.signature.outputs[0])) == ("sklearn", "value: [n] FP32")


def test_a_gate_of_numbers_stops_the_version(tools: Workshop) -> None:
    with pytest.raises(GateFailed, match=r"rmse 4.\.\d+ > 10"):
        _train(tools, "linear_regression", "rmse <= 10")


def test_what_does_not_fit_the_task_is_told_before_training(tools: Workshop) -> None:
    told = "'logistic_regression' does classification and multilabel; the target holds numbers"
    with pytest.raises(InvalidDataset, match=told):
        _train(tools, "logistic_regression")
    with pytest.raises(InvalidGate, match="target holds numbers"):
        _train(tools, "random_forest", "accuracy >= 0.8")
    with pytest.raises(InvalidRecipe, match=r"line 6: .*'mlp' is for 'classification' or .*, but .* 'regression'"):
        _train(tools, "mlp", task="regression")


def test_a_straight_line_has_nothing_to_compress(tools: Workshop) -> None:
    _train(tools, "linear_regression")
    with pytest.raises(NoVariant, match="no technique applies; of 'int8 dynamic': there is nothing to quantise"):
        JOB_KINDS["compress"]({"version": "diabetes@1", "max_drop": 0.01, "trials": 1}, tools, Watched())
