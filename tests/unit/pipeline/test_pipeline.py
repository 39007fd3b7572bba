import os
import re
from dataclasses import replace
from typing import Any

import pytest
from watched import Watched

from mofang.base.domain.errors import (
    DatasetNotFound,
    GateFailed,
    InvalidGate,
    InvalidRecipe,
    JobCancelled,
    LeaseLost,
    NoVariant,
    ParityFailed,
    VersionNotFound,
)
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import load_split
from mofang.make.workshop import Workshop

RECIPE = """
name = "digits"

[prepare]
source = ["idx:/nowhere/at/all", "sklearn:digits"]

[train]
algorithm = "mlp"
epochs = 10
batch_size = 32
hidden = [64]

[evaluate]
gate = "accuracy >= 0.85 and recall[3] >= 0.5"

[register]
alias = "champion"
"""
STAGES = ["prepare", "train", "convert", "evaluate", "register"]


def _train(tools: Workshop, progress: Watched, recipe: str = RECIPE) -> dict[str, Any]:
    return JOB_KINDS["train"]({"recipe": recipe, "filename": "digits.toml"}, tools, progress)


def test_a_recipe_becomes_a_version_that_tells_where_it_came_from(tools: Workshop, progress: Watched) -> None:
    result = _train(tools, progress)
    assert progress.stages == STAGES
    assert (result["model"], result["version"], result["created"]) == ("digits", 1, True)

    run = tools.runs.get(result["run"])
    assert (run.state, run.version, run.job, run.algorithm) == ("succeeded", "digits@1", "job_1", "mlp")
    assert len(run.curve) == 10
    assert run.conversion["passed"] is True
    assert run.artifact == result["digest"]
    assert run.created_at <= run.ended_at
    assert "mofang" in run.code
    assert "scikit-learn" in run.code

    version = tools.registry.get(VersionRef.parse("digits@champion"))
    assert version.digest == result["digest"]
    lineage = version.lineage
    assert (lineage.source, lineage.run, lineage.dataset) == ("train", run.id, run.dataset)
    assert lineage.recipe == run.recipe_digest
    assert version.artifact.labels == tuple("0123456789")

    evaluation = tools.evaluations.get(result["evaluation"])
    assert (evaluation.digest, evaluation.dataset) == (version.digest, run.dataset)
    assert evaluation.report.metrics == version.metrics
    assert version.metrics["accuracy"] > 0.9
    assert evaluation.report.gate == "accuracy >= 0.85 and recall[3] >= 0.5"
    assert list(tools.scratch.iterdir()) == []


def test_the_same_recipe_again_makes_the_same_bytes(tools: Workshop, progress: Watched) -> None:
    first = _train(tools, progress)
    again = _train(replace(tools, job="job_2"), progress)
    assert again["digest"] == first["digest"]
    assert (again["version"], again["created"]) == (1, False)
    assert again["run"] != first["run"]


def test_a_gate_that_fails_registers_nothing_but_keeps_the_evidence(tools: Workshop, progress: Watched) -> None:
    strict = RECIPE.replace("accuracy >= 0.85", "accuracy >= 0.9999 and macro_f1 >= 0.1")
    with pytest.raises(GateFailed, match=r"'digits' did not pass its gate: accuracy 0\.9\d* < 0\.9999$") as caught:
        _train(tools, progress, strict)
    (run,) = tools.runs.list()
    assert run.id in caught.value.hint
    assert (run.state, run.version) == ("failed", "")
    assert run.error["code"] == "gate.failed"
    assert tools.evaluations.get(run.evaluation).report.failures
    assert tools.registry.list_models() == []


def test_a_recipe_that_cannot_be_read_leaves_no_run(tools: Workshop, progress: Watched) -> None:
    with pytest.raises(InvalidRecipe, match="acuracy"):
        _train(tools, progress, RECIPE.replace("accuracy >= 0.85", "acuracy >= 0.85"))
    assert tools.runs.list() == []
    assert progress.stages == []


def test_a_gate_on_a_class_that_is_not_there_fails_before_training(tools: Workshop, progress: Watched) -> None:
    with pytest.raises(InvalidGate, match="names class '11'"):
        _train(tools, progress, RECIPE.replace("recall[3]", "recall[11]"))
    assert progress.stages == ["prepare"]
    assert tools.runs.list()[0].error["code"] == "gate.invalid"


def test_answers_that_differ_from_the_source_are_refused(tools: Workshop, progress: Watched) -> None:
    with pytest.raises(ParityFailed):
        _train(tools, progress, RECIPE.replace("[evaluate]", "[convert]\ntolerance = 1e-12\n[evaluate]"))
    assert tools.runs.list()[0].error["code"] == "convert.parity"
    assert tools.registry.list_models() == []


def test_a_model_can_be_served_by_its_own_framework(tools: Workshop, progress: Watched) -> None:
    result = _train(tools, progress, RECIPE.replace("[evaluate]", '[convert]\nformat = "skops"\n[evaluate]'))
    version = tools.registry.get(VersionRef.parse("digits@1"))
    assert version.artifact.engine == "sklearn"
    assert tools.runs.get(result["run"]).conversion["passed"] is True
    with pytest.raises(NoVariant, match="computed by engine 'sklearn'"):
        JOB_KINDS["compress"]({"version": "digits@1", "max_drop": 0.1}, tools, progress)


def test_a_cancelled_run_says_so_and_an_interrupted_one_goes_on(tools: Workshop, progress: Watched) -> None:
    progress.refuse_at, progress.refuse_with = "evaluate", LeaseLost("another worker has it")
    with pytest.raises(LeaseLost):
        _train(tools, progress)
    (interrupted,) = tools.runs.list()
    assert interrupted.state == "running"

    progress.refuse_with = JobCancelled("someone asked to stop")
    with pytest.raises(JobCancelled):
        _train(tools, progress)
    (cancelled,) = tools.runs.list()
    assert (cancelled.id, cancelled.state) == (interrupted.id, "cancelled")
    assert tools.registry.list_models() == []
    assert list(tools.scratch.iterdir()) == []


def test_a_version_is_evaluated_on_the_data_it_was_made_from(tools: Workshop, progress: Watched) -> None:
    trained = _train(tools, progress)
    result = JOB_KINDS["evaluate"]({"version": "digits", "dataset": "", "gate": "accuracy > 0.9999"}, tools, progress)
    assert result["passed"] is False
    found = tools.evaluations.get(result["evaluation"])
    assert found.report.scores == tools.evaluations.get(trained["evaluation"]).report.scores
    assert len(tools.evaluations.list(digest=trained["digest"])) == 2

    with pytest.raises(DatasetNotFound):
        JOB_KINDS["evaluate"]({"version": "digits", "dataset": "sha256:0", "gate": ""}, tools, progress)
    with pytest.raises(InvalidGate):
        JOB_KINDS["evaluate"]({"version": "digits", "dataset": "", "gate": "f1 > 2"}, tools, progress)


def test_variants_are_measured_and_registered_with_their_version(tools: Workshop, progress: Watched) -> None:
    trained = _train(tools, progress)
    order = {"version": "digits@champion", "max_drop": 0.02, "objective": "size", "trials": 3}
    result = JOB_KINDS["compress"](order, tools, progress)
    found = tools.variants.newest(trained["digest"])
    assert [each.told for each in found] == ["int8 dynamic", "int8 static minmax", "int8 static entropy"]
    (picked,) = [each for each in found if each.is_picked]
    assert picked.is_front
    assert (result["version"], result["picked"]) == ("digits@1", f"digits@1+{picked.technique}")

    version = tools.registry.get(VersionRef.parse(result["picked"]))
    assert (version.digest, version.number, version.variant) == (picked.digest, 1, picked.technique)
    assert (version.lineage.source, version.lineage.parent) == ("compress", trained["digest"])
    assert version.lineage.steps == picked.told
    assert version in tools.registry.list_variants(tools.registry.get(VersionRef("digits")))
    assert version in tools.registry.find_digest(picked.digest)
    assert len(tools.registry.list_versions("digits")) == 1  # a variant is no newer version
    assert tools.registry.get(VersionRef("digits")).digest == trained["digest"]
    with pytest.raises(VersionNotFound, match="digits@1 has no variant 'int4'"):
        tools.registry.get(VersionRef.parse("digits@1+int4"))
    with pytest.raises(NoVariant, match="is a variant itself"):
        JOB_KINDS["compress"]({"version": str(version)}, tools, progress)

    measured = picked.comparison
    assert measured is not None
    dataset = tools.datasets.get(picked.dataset)
    assert measured.quality.rows == len(load_split(tools.blobs, dataset, "test")[1])
    assert measured.quality.parent == tools.evaluations.get(trained["evaluation"]).report.scores.accuracy
    assert measured.quality.low <= measured.drop <= measured.quality.high
    assert measured.size_bytes == version.artifact.size_bytes < measured.parent_size_bytes / 2
    assert min(measured.memory_bytes, measured.parent_memory_bytes) > 10_000_000
    timed = {(each.batch, each.threads) for each in measured.latencies}
    assert timed == {(batch, threads) for batch in (1, 32) for threads in {1, len(os.sched_getaffinity(0))}}
    (report,) = tools.evaluations.list(digest=picked.digest)
    assert report.report.scores.accuracy == measured.quality.value == version.metrics["accuracy"]


def test_nothing_is_registered_if_no_variant_is_good_enough(tools: Workshop, progress: Watched) -> None:
    trained = _train(tools, progress)
    with pytest.raises(NoVariant, match="nothing was registered for digits@1: none of 2 variants"):
        JOB_KINDS["compress"]({"version": "digits", "max_drop": -1.0, "trials": 2}, tools, progress)
    found = tools.variants.newest(trained["digest"])
    assert len(found) == 2
    assert not any(each.accepted or each.version or each.digest for each in found)
    assert all("it loses" in each.refusal for each in found)
    assert tools.registry.list_variants(tools.registry.get(VersionRef("digits"))) == []


def test_a_search_that_was_killed_goes_on_and_leaves_nothing_half_made(tools: Workshop, progress: Watched) -> None:
    _train(tools, progress)
    version = tools.registry.get(VersionRef("digits"))
    order = {"version": "digits", "max_drop": 0.5, "objective": "size", "trials": 4}
    killed = Watched()
    killed.refuse_message, killed.refuse_with = "2: int8 static minmax", LeaseLost("the worker was killed")
    with pytest.raises(LeaseLost):
        JOB_KINDS["compress"](order, tools, killed)
    assert tools.registry.list_variants(version) == []
    assert tools.variants.list() == []

    again = Watched()
    result = JOB_KINDS["compress"](order, tools, again)
    tried = [message for message in again.messages if re.match(r"\d: ", message)]
    assert [message.split(":")[1] for message in tried] == [" int8 static entropy", " int8 static percentile"]
    assert len(result["variants"]) == 4
    assert result["picked"] in map(str, tools.registry.list_variants(version))


def test_a_model_without_products_has_no_variant(tools: Workshop, progress: Watched) -> None:
    tree = RECIPE.replace('"mlp"\nepochs = 10\nbatch_size = 32\nhidden = [64]', '"decision_tree"')
    _train(tools, progress, tree.replace("accuracy >= 0.85 and recall[3] >= 0.5", "accuracy >= 0.5"))
    with pytest.raises(NoVariant, match=r"no technique applies; of 'int8 dynamic': there is nothing to quantise"):
        JOB_KINDS["compress"]({"version": "digits", "max_drop": 0.1, "trials": 1}, tools, progress)
