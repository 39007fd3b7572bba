"""A pushed network, of which nobody knows more than its file and a sample, teaches a student that takes its place."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from watched import Watched

import graphs
from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.make.pipeline import JOB_KINDS, push_files
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS, SPREAD = (6, 192, 192, 3), (0.3, 1, 12)  # of weights, so that the classes are apart
BEFORE = 16  # candidates that are tried before the first student, most of them in vain


def network(*widths: int) -> bytes:
    """Layers whose weights no technique on files finds, numbers ``my.in`` [n, d] to probabilities ``linear`` [n, k]."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "my.in"
    for number, (given, asked) in enumerate(pairwise(widths)):
        drawn = random.normal(0, SPREAD[number] * given**-0.5, (given, asked)).astype(np.float32)
        weights.append(numpy_helper.from_array(drawn, f"w{number}"))
        nodes.append(helper.make_node("Einsum", [value, f"w{number}"], [f"sum{number}"], equation="nd,dk->nk"))
        nodes.append(helper.make_node("Tanh", [f"sum{number}"], [f"tanh{number}"]))
        value = f"tanh{number}"
    nodes[-1] = helper.make_node("Softmax", ["sum2"], ["linear"])
    ends = [graphs.value("my.in", ("n", widths[0]))], [graphs.value("linear", ("n", widths[-1]))]
    return graphs.model(nodes, *ends, weights).SerializeToString()


def pushed(tools: Workshop, content: bytes) -> None:
    ref = tools.blobs.put([content])
    entry = {"path": "model.onnx", "sha256": ref.sha256, "size_bytes": ref.size_bytes}
    push_files({"model": "box", "engine": "onnx", "files": [entry]}, tools, Watched())


def compress(tools: Workshop, progress: Watched, rows: NDArray[Any], **more: Any) -> dict[str, Any]:
    file = io.BytesIO()
    np.savez(file, **{"my.in": rows})
    ref = tools.blobs.put([file.getvalue()])
    order = {"version": "box@1", "calibration": ref.sha256, "filename": "sample.npz", "seconds": 0.0, **more}
    result: dict[str, Any] = JOB_KINDS["compress"](order, tools, progress)
    return result


def sample(count: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def answers(tools: Workshop, version: ModelVersion, rows: NDArray[np.float32], folder: Path) -> NDArray[Any]:
    with tools.engine("onnx", tools.registry.folder(version, folder)) as engine:
        assert engine.signature == version.artifact.signature
        return engine.infer({"my.in": rows})["linear"]


def test_a_student_takes_the_place_of_a_pushed_network(tools: Workshop, progress: Watched, tmp_path: Path) -> None:
    pushed(tools, network(*WIDTHS))
    result = compress(tools, progress, sample(512), max_drop=0.1, max_size_mb=0.06, trials=BEFORE + 1)
    (picked,) = [each for each in result["variants"] if each["is_picked"]]
    assert picked["told"].startswith("student dense hidden")
    assert (picked["comparison"]["quality"]["metric"], picked["comparison"]["quality"]["rows"]) == ("agreement", 256)
    original = tools.registry.get(VersionRef.parse("box@1"))
    variant = tools.registry.get(VersionRef.parse(result["picked"]))
    assert variant.artifact.signature == original.artifact.signature
    assert variant.artifact.size_bytes < original.artifact.size_bytes / 3
    ours, theirs = (answers(tools, each, sample(500, 2), tmp_path / each.digest[-8:]) for each in (variant, original))
    assert np.square(ours - theirs).mean() < 0.2 * theirs.var(axis=0).mean()
    assert ours.sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_a_sample_that_is_too_small_teaches_nobody_and_says_how_many_rows_would(
    tools: Workshop, progress: Watched
) -> None:
    pushed(tools, network(*WIDTHS))
    with pytest.raises(NoVariant, match="no technique applies"):
        compress(tools, progress, sample(100), trials=1)
    (said,) = [message for message in progress.messages if "no student" in message]
    assert said.startswith("no student can take its place: 50 rows to learn from are too few, 256 are needed")
    assert said.endswith("so give 512")


def test_a_model_with_a_label_beside_its_scores_teaches_nobody_and_the_log_says_why(
    tools: Workshop, progress: Watched
) -> None:
    pushed(tools, graphs.classifier(np.ones((4, 2), np.float32)).SerializeToString())
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).random((600, 4), np.float32))
    ref = tools.blobs.put([file.getvalue()])
    order = {"version": "box@1", "calibration": ref.sha256, "filename": "sample.npy", "trials": 1}
    with pytest.raises(NoVariant):
        JOB_KINDS["compress"](order, tools, progress)
    said = "no student can take its place: the model has more inputs or outputs than the one of each that a student has"
    assert said in progress.messages
    with pytest.raises(NoVariant, match="nothing here can learn from it"):
        JOB_KINDS["compress"]({**order, "teacher": "box@1"}, tools, progress)


def test_a_dataset_will_do_for_a_student_in_place_of_a_sample(tools: Workshop, progress: Watched) -> None:
    recipe = 'name = "cells"\n[prepare]\nsource = "sklearn:breast_cancer"\n[train]\nalgorithm = "mlp"\n'
    dataset = JOB_KINDS["prepare"]({"recipe": recipe, "filename": "recipe.toml"}, tools, progress)["dataset"]
    pushed(tools, network(30, 128, 192, 2))
    order = {"version": "box@1", "dataset": dataset, "seconds": 0.0, "max_drop": 0.5, "trials": BEFORE + 1}
    result = JOB_KINDS["compress"]({**order, "max_size_mb": 0.06}, tools, progress)
    (picked,) = [each for each in result["variants"] if each["is_picked"]]
    assert picked["told"].startswith("student dense hidden")
    assert picked["comparison"]["quality"]["metric"] == "accuracy"
