"""A training run while it runs: its row, what every kind of training does first, and what it does last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from mofang.base.domain.errors import GateFailed, Internal, InvalidDataset, JobCancelled, MofangError
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.registry import Artifact, Lineage
from mofang.base.domain.work import Progress
from mofang.make.evaluate.report import Report
from mofang.make.pipeline.outcome import Result, code, told
from mofang.make.prepare.dataset import Dataset, Examples
from mofang.make.recipe import Recipe, algorithms, recipe_digest
from mofang.make.train.catalog import Searcher
from mofang.make.train.model import TrainedModel, Trainer
from mofang.make.train.provenance import provenance
from mofang.make.train.quote import peak_bytes
from mofang.make.train.store import RunStore, TrainingRun
from mofang.make.workshop import Workshop

_PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sklearn": ("scikit-learn", "skl2onnx"),
        "xgboost": ("xgboost-cpu", "xgboost", "onnxmltools"),
        "lightgbm": ("lightgbm", "onnxmltools"),
        "catboost": ("catboost",),
        "vowpalwabbit": ("vowpalwabbit", "onnx"),
        "torch": ("torch", "onnxscript"),
        "keras": ("keras", "torch", "onnxscript"),
        "transformers": ("transformers", "peft", "torch", "gguf"),
        "function": ("numpy", "onnx"),
    }
)
"""What a version's code names, of the packages that are installed: XGBoost comes under two names."""


class Record:
    """The run's row, saved again whenever more is known, so that `runs show` tells how far a run came."""

    def __init__(self, store: RunStore, run: TrainingRun) -> None:
        self._store = store
        self.run = store.save(run)

    def note(self, **known: Any) -> None:
        """Keep what is known now."""
        self.run = self._store.save(replace(self.run, **known))

    def fail(self, error: Exception) -> None:
        """Keep why it failed, or that it was cancelled."""
        told = error if isinstance(error, MofangError) else Internal(f"{type(error).__name__}: {error}")
        self.note(
            state="cancelled" if isinstance(error, JobCancelled) else "failed",
            ended_at=now_us(),
            error={"code": told.code, "message": told.message, "hint": told.hint},
        )


def new_run(recipe: Recipe, text: str, tools: Workshop) -> TrainingRun:
    """Return the run to record into: the one this job began before it was interrupted, or a new one."""
    earlier = tools.runs.find_by_job(tools.job) if tools.job else None
    return TrainingRun(
        id=earlier.id if earlier else new_id("run"),
        job=tools.job,
        recipe_name=recipe.name,
        recipe_digest=recipe_digest(text),
        recipe=text,
        algorithm=recipe.train.algorithm,
        state="running",
        created_at=earlier.created_at if earlier else now_us(),
        code=code(*_PACKAGES[recipe.train.made_by]),
        provenance=provenance(),
        estimate=tools.runs.find_quote(recipe_digest(text)),
        trials=earlier.trials if earlier else (),
    )


def trained(
    recipe: Recipe, train: Trainer, search: Searcher | None, examples: Examples, record: Record, tools: Workshop,
    progress: Progress,
) -> TrainedModel:  # fmt: skip
    """Train, or search for the best of many trainings, and note what came of it."""
    if search is None:
        found = train(recipe.train, examples, progress)
    else:
        earlier, keep = record.run.trials, partial(_keep_trials, record)
        found = search(recipe.search, recipe.train, train, examples, progress, earlier=earlier, keep=keep).model
    network = tools.blobs.put([found.network]).sha256 if found.network else ""
    expected = {**record.run.estimate, "actual_seconds": found.seconds, "actual_memory_bytes": peak_bytes()}
    record.note(curve=found.curve, seconds=found.seconds, network=network, estimate=expected)
    return found


def _keep_trials(record: Record, trials: tuple[dict[str, Any], ...]) -> None:
    record.note(trials=trials)


def check_task(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InvalidDataset if the recipe's algorithm does not do what the data asks for."""
    if dataset.task not in recipe.train.tasks:
        counted = f"{len(dataset.schema.labels)} {'labels' if dataset.task == 'multilabel' else 'classes'}"
        what = "numbers" if dataset.task == "regression" else counted
        raise InvalidDataset(
            f"algorithm {recipe.train.algorithm!r} does {' and '.join(recipe.train.tasks)}; the target holds {what}",
            hint=f"for {dataset.task}: {', '.join(algorithms(dataset.task))};"
            f' or say what the target is: [prepare] task = "{recipe.train.tasks[0]}"',
        )


def finish(
    recipe: Recipe, record: Record, artifact: Artifact, report: Report, tools: Workshop, progress: Progress,
    *, parent: str = "",
) -> Result:  # fmt: skip
    """Keep the report, and register the artifact if its gate lets it through. Raises GateFailed."""
    evaluation = tools.evaluations.record(recipe.name, artifact.digest, record.run.dataset, report)
    record.note(evaluation=evaluation.id)
    if not report.passed:
        raise GateFailed(
            f"{recipe.name!r} did not pass its gate: {'; '.join(report.failures)}",
            hint=f"nothing was registered; `mofang runs show {record.run.id}` shows the whole report",
        )
    run = record.run
    lineage = Lineage("train", run=run.id, dataset=run.dataset, recipe=run.recipe_digest, code=run.code, parent=parent)
    version, created = tools.registry.register(recipe.name, artifact, lineage, report.metrics)
    if recipe.register.alias:
        version = tools.registry.set_alias(recipe.name, recipe.register.alias, version.number)
    record.note(state="succeeded", version=str(version), ended_at=now_us())
    progress.report("register", 1.0, f"{version} {'registered' if created else 'was there already'}")
    return {"run": record.run.id, "evaluation": evaluation.id, **told(version, created)}
