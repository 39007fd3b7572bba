"""Rows with any number of labels: from columns or lists of labels to a gated version, and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched import Watched

from mofang.base.domain.errors import GateFailed, InvalidDataset, InvalidGate, InvalidRecipe, NoVariant
from mofang.base.domain.names import VersionRef
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.page import report_html
from mofang.make.evaluate.report import LabelScores
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import load_examples
from mofang.make.workshop import Workshop

RECIPE = """
name = "tags"

[prepare]
source = "file:{path}"
target = {target}

[train]
algorithm = "{algorithm}"
{keys}

[evaluate]
gate = "{gate}"
"""
KEYS = {
    "dense": "epochs = 12\nlearning_rate = 0.02\nhidden = [16]\nbatch_size = 32\nclass_weights = 'balanced'",
    "mlp": "epochs = 12\nlearning_rate = 0.02\nhidden = [16]\nbatch_size = 32",
    "random_forest": "trees = 20",
    "xgboost": "rounds = 30",
    "lightgbm": "rounds = 30\nsubsample = 0.8",
    "logistic_regression": "epochs = 30\nlearning_rate = 0.02",
}


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Weather: it may rain, be warm, be windy, any of them at once; hail is known of two days alone."""
    random = np.random.default_rng(0)
    found = []
    for row in range(400):
        damp, heat, gust = random.normal(size=3).round(3).tolist()
        marks = {"rain": damp > 0, "warm": heat > 0.5, "wind": gust + damp > 1, "hail": row in (3, 9)}
        found.append({"damp": damp, "heat": heat, "gust": gust, "sky": "ab"[row % 2], **marks})
    return found


@pytest.fixture
def table(rows: list[dict[str, Any]], tmp_path: Path) -> Path:
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    (tmp_path / "days.csv").write_text("\n".join(lines))
    return tmp_path / "days.csv"


def _train(tools: Workshop, progress: Watched, path: Path, algorithm: str, **words: str) -> dict[str, Any]:
    filled = {"target": '["rain", "warm", "wind"]', "keys": KEYS.get(algorithm, ""), "gate": "", **words}
    recipe = RECIPE.format(path=path, algorithm=algorithm, **filled)
    return JOB_KINDS["train"]({"recipe": recipe, "filename": "tags.toml"}, tools, progress)


@pytest.mark.parametrize("algorithm", KEYS)
def test_columns_of_labels_become_a_version_that_answers_them(
    tools: Workshop, progress: Watched, table: Path, algorithm: str
) -> None:
    gate = "micro_f1 >= 0.8 and recall[rain] >= 0.8 and hamming_loss <= 0.15"
    result = _train(tools, progress, table, algorithm, gate=gate)
    version = tools.registry.get(VersionRef.parse("tags@1"))
    assert version.artifact.labels == ("rain", "warm", "wind")
    outputs = {spec.name: (spec.datatype, spec.shape) for spec in version.artifact.signature.outputs}
    assert outputs == {"labels": ("INT64", (-1, 3)), "probabilities": ("FP32", (-1, 3))}
    run = tools.runs.get(result["run"])
    assert run.conversion["passed"]
    assert run.curve[-1]["loss"] <= run.curve[0]["loss"]

    report = tools.evaluations.get(result["evaluation"]).report
    assert isinstance(report.scores, LabelScores)
    assert report.metrics == version.metrics
    assert report.metrics["subset_accuracy"] <= 1 - report.metrics["hamming_loss"]
    low, high = report.intervals["micro_f1"]
    assert low <= report.metrics["micro_f1"] <= high
    assert "<th>label</th>" in report_html("tags@1", "days", report)
    card = model_card(version, "days", report)
    assert "| rain |" in card
    assert "**micro average**" in card


def test_a_version_is_compared_sliced_and_held_to_a_gate(tools: Workshop, progress: Watched, table: Path) -> None:
    _train(tools, progress, table, "random_forest")
    _train(tools, progress, table, "mlp", keys="epochs = 1\nhidden = [2]")
    asked = {"version": "tags@2", "dataset": "", "against": "tags@1", "slices": ["sky"],
             "gate": "subset_accuracy >= 0.99 and not worse_than(1)"}  # fmt: skip
    result = JOB_KINDS["evaluate"](asked, tools, progress)
    report = tools.evaluations.get(result["evaluation"]).report
    assert not result["passed"]
    assert report.failures[0].startswith("subset_accuracy ")
    assert report.failures[1].startswith("worse than 1 (tags@1): subset_accuracy differs by -")
    assert {each.value for each in report.slices} == {"a", "b"}
    assert set(report.slices[0].metrics) == {"subset_accuracy", "micro_f1"}
    assert all(each.truth != each.answered for each in report.mistakes)
    with pytest.raises(InvalidGate, match="'accuracy', but the data's target holds labels"):
        JOB_KINDS["evaluate"]({**asked, "gate": "accuracy >= 0.5"}, tools, progress)
    with pytest.raises(InvalidGate, match="'snow', which the data does not have"):
        JOB_KINDS["evaluate"]({**asked, "gate": "recall[snow] >= 0.5"}, tools, progress)
    with pytest.raises(NoVariant, match="several labels"):
        JOB_KINDS["compress"]({"version": "tags@1"}, tools, progress)


def test_lists_of_labels_in_json_lines_and_csv_say_the_same(
    tools: Workshop, progress: Watched, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    names = ("hail", "rain", "warm", "wind")
    lists = [[name for name in names if row[name]] for row in rows]
    seen = [{name: row[name] for name in ("damp", "heat", "gust")} for row in rows]
    lines = (json.dumps({**row, "tags": tags}) for row, tags in zip(seen, lists, strict=True))
    (tmp_path / "days.jsonl").write_text("\n".join(lines))
    cells = (
        f"{row['damp']},{row['heat']},{row['gust']},{'|'.join(tags)}" for row, tags in zip(seen, lists, strict=True)
    )
    (tmp_path / "days.csv").write_text("damp,heat,gust,tags\n" + "\n".join(cells))
    found = []
    for name in ("days.jsonl", "days.csv"):
        result = _train(tools, progress, tmp_path / name, "random_forest",
                        target='"tags"\ntask = "multilabel"\n[prepare.clean]\nsmallest_class = 5')  # fmt: skip
        found.append(tools.datasets.get(tools.runs.get(result["run"]).dataset))
    assert found[0].digest == found[1].digest
    assert (found[0].task, found[0].schema.labels) == ("multilabel", ("rain", "warm", "wind"))
    assert any("label 'hail': 2 of 400 rows have it" in told for told in progress.messages)
    for split in ("train", "test"):
        target = load_examples(tools.blobs, found[0], split=split).target  # type: ignore[arg-type]
        assert target.shape == (found[0].splits[split].rows, 3)
        assert (target.mean(axis=0) > 0.1).all()
        assert (target.sum(axis=1) == 0).any()  # rows without a label stay


def test_wrong_targets_and_algorithms_are_told(tools: Workshop, progress: Watched, table: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"days.csv' line 2: label 'damp' must be 0 or 1, got '0\.126'"):
        _train(tools, progress, table, "mlp", target='["damp", "rain"]')
    with pytest.raises(InvalidDataset, match="there is no column 'snow'"):
        _train(tools, progress, table, "mlp", target='["snow", "rain"]')
    with pytest.raises(InvalidRecipe, match=r"'vowpal_wabbit' is for .*, but .prepare. task is 'multilabel'"):
        _train(tools, progress, table, "vowpal_wabbit", target='["rain"]', keys="")
    with pytest.raises(InvalidRecipe, match="has one target, but 2 are listed"):
        _train(tools, progress, table, "mlp", target='["rain", "warm"]\ntask = "classification"')
    with pytest.raises(GateFailed, match="micro_f1"):
        _train(tools, progress, table, "mlp", keys="epochs = 1\nhidden = [1]", gate="micro_f1 >= 1")
    recipe = RECIPE.format(path="x", target='"y"\ntask = "multilabel"', algorithm="mlp", keys="", gate="")
    recipe = recipe.replace("file:x", "sklearn:iris")
    with pytest.raises(InvalidDataset, match="has one class a row"):
        JOB_KINDS["train"]({"recipe": recipe, "filename": "tags.toml"}, tools, progress)
