"""A training job: prepare, train, convert, evaluate, register."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import (
    ConversionFailed,
    GateFailed,
    Internal,
    InvalidDataset,
    JobCancelled,
    LeaseLost,
    MofangError,
)
from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import prove
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import Closer, evaluate
from mofang.make.pipeline.evaluate import rivals_of
from mofang.make.pipeline.outcome import Result, Spec, code, told
from mofang.make.pipeline.prepare import prepared
from mofang.make.prepare.dataset import Dataset, Examples, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.recipe import Recipe, algorithms, parse_recipe, recipe_digest
from mofang.make.train.catalog import searcher, trainer
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
        "function": ("numpy", "onnx"),
    }
)
"""What a version's code names, of the packages that are installed: XGBoost comes under two names."""


class _Record:
    """The run's row, saved again whenever more is known, so that `runs show` tells how far a run came."""

    def __init__(self, store: RunStore, run: TrainingRun) -> None:
        self._store = store
        self.run = store.save(run)

    def note(self, **known: Any) -> None:
        self.run = self._store.save(replace(self.run, **known))

    def fail(self, error: Exception) -> None:
        told = error if isinstance(error, MofangError) else Internal(f"{type(error).__name__}: {error}")
        self.note(
            state="cancelled" if isinstance(error, JobCancelled) else "failed",
            ended_at=now_us(),
            error={"code": told.code, "message": told.message, "hint": told.hint},
        )


def train_recipe(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Make a version from ``spec["recipe"]`` (text; ``spec["filename"]`` names it in messages).

    Raises InvalidRecipe before any data is touched, and what the stages raise; run and evaluation are kept also then.
    """
    recipe = parse_recipe(spec["recipe"], spec["filename"], check_gate=parse_gate)
    record = _Record(tools.runs, _new_run(recipe, spec["recipe"], tools))
    try:
        return _make(recipe, record, tools, progress)
    except LeaseLost:  # another worker goes on with this very run
        raise
    except Exception as error:
        record.fail(error)
        raise


def _new_run(recipe: Recipe, text: str, tools: Workshop) -> TrainingRun:
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


def _make(recipe: Recipe, record: _Record, tools: Workshop, progress: Progress) -> Result:
    train = trainer(recipe.train, tools.checkpoint)  # before any data is touched
    search = searcher() if recipe.search.space else None
    dataset = prepared(recipe.prepare, tools, progress)
    gate = parse_gate(recipe.evaluate.gate)
    gate.check_labels(dataset.schema.labels)
    record.note(dataset=dataset.digest)
    check_task(recipe, dataset)

    examples = load_examples(tools.blobs, dataset, recipe.prepare.augment)
    if search is None:
        trained = train(recipe.train, examples, progress)
    else:
        earlier, keep = record.run.trials, partial(_keep_trials, record)
        trained = search(recipe.search, recipe.train, train, examples, progress, earlier=earlier, keep=keep).model
    network = tools.blobs.put([trained.network]).sha256 if trained.network else ""
    expected = {**record.run.estimate, "actual_seconds": trained.seconds, "actual_memory_bytes": peak_bytes()}
    record.note(curve=trained.curve, seconds=trained.seconds, network=network, estimate=expected)

    test = load_examples(tools.blobs, dataset, split="test")
    features = test.features.reshape(len(test.features), -1).astype(np.float32)
    with tools.folder() as folder:
        engine_name, signature, source = _convert(recipe, trained.pipeline, test, folder)
        with tools.engine(engine_name, folder) as engine:
            infer = partial(_ask, engine, test)
            proof = prove(source, infer, features, progress, tolerance=recipe.convert.tolerance)
            artifact = Artifact(engine_name, tools.keep(folder), signature, dataset.schema.labels)
            record.note(artifact=artifact.digest, conversion=asdict(proof))
            rows = feed(test, signature)
            with rivals_of(recipe.name, gate.rivals, test, tools) as rivals:
                closer = Closer(test, recipe.evaluate.slices, rivals)
                report = evaluate(engine, rows, test.target, dataset.schema.labels, gate, progress, closer)

    evaluation = tools.evaluations.record(recipe.name, artifact.digest, dataset.digest, report)
    record.note(evaluation=evaluation.id)
    if not report.passed:
        raise GateFailed(
            f"{recipe.name!r} did not pass its gate: {'; '.join(report.failures)}",
            hint=f"nothing was registered; `mofang runs show {record.run.id}` shows the whole report",
        )
    version, created = _register(recipe, artifact, record.run, report.metrics, tools)
    record.note(state="succeeded", version=str(version), ended_at=now_us())
    progress.report("register", 1.0, f"{version} {'registered' if created else 'was there already'}")
    return {"run": record.run.id, "evaluation": evaluation.id, **told(version, created)}


def _keep_trials(record: _Record, trials: tuple[dict[str, Any], ...]) -> None:
    record.note(trials=trials)


def check_task(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InvalidDataset if the recipe's algorithm does not do what the data asks for."""
    if dataset.task not in recipe.train.tasks:
        what = "numbers" if dataset.task == "regression" else f"{len(dataset.schema.labels)} classes"
        raise InvalidDataset(
            f"algorithm {recipe.train.algorithm!r} does {' and '.join(recipe.train.tasks)}; the target holds {what}",
            hint=f"for {dataset.task}: {', '.join(algorithms(dataset.task))};"
            f' or say what the target is: [prepare] task = "{recipe.train.tasks[0]}"',
        )


def _convert(recipe: Recipe, pipeline: Any, test: Examples, folder: Path) -> tuple[str, Signature, Callable[..., Any]]:
    """Write the artifact, preparation included; return its engine, its signature, and the source to hold it against."""
    schema = test.schema
    to_onnx, reference = converter(recipe.train.made_by)
    if recipe.convert.format == "skops":
        from mofang.make.convert.sklearn import save

        if schema.columns or schema.scaling:
            raise ConversionFailed(
                "format 'skops' cannot carry what the data needs before a model sees it",
                hint="leave [convert] format out: ONNX carries it inside the graph",
            )
        return "sklearn", save(pipeline, folder), partial(reference, pipeline)
    from mofang.make.prepare.onnx import complete

    image = recipe.convert.input == "image" or (recipe.convert.input == "auto" and schema.encoded)
    signature = complete(folder, to_onnx(pipeline, folder), schema, image=image)

    def source(features: NDArray[np.float32]) -> dict[str, Array]:
        if image and not np.isfinite(features).all():
            raise ValueError("a picture has no missing values")
        return reference(pipeline, replace(test, features=features).rows())

    return "onnx", signature, source


def _ask(engine: Engine, test: Examples, rows: Mapping[str, Array]) -> dict[str, Array]:
    """Ask as a client would: the one array of ``rows`` holds rows as stored."""
    (features,) = rows.values()
    return engine.infer(feed(replace(test, features=features), engine.signature))


def _register(
    recipe: Recipe, artifact: Artifact, run: TrainingRun, metrics: dict[str, float], tools: Workshop
) -> tuple[ModelVersion, bool]:
    lineage = Lineage("train", run=run.id, dataset=run.dataset, recipe=run.recipe_digest, code=run.code)
    version, created = tools.registry.register(recipe.name, artifact, lineage, metrics)
    if recipe.register.alias:
        version = tools.registry.set_alias(recipe.name, recipe.register.alias, version.number)
    return version, created
