"""The kinds of jobs that make versions: each one function, the stages in their order.

A job process looks its kind up in :data:`JOB_KINDS` and calls it with the job's spec, a :class:`Workshop` and where to
report progress. The function returns the job's result, or raises a MofangError that says why there is none. It must
not know leases, processes or the wire. Frameworks are imported by the stage that needs them, when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import (
    DatasetNotFound,
    GateFailed,
    Internal,
    InvalidDataset,
    InvalidModel,
    JobCancelled,
    LeaseLost,
    MofangError,
    NoVariant,
)
from mofang.base.domain.names import VersionRef, check_name, new_id, now_us
from mofang.base.domain.registry import Artifact, FileEntry, Lineage, ModelVersion
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.compress.compare import Contestant, compare, refusal
from mofang.make.compress.store import Variant
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import prove
from mofang.make.convert.rows import settled
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import evaluate
from mofang.make.prepare.dataset import Dataset, Schema, load_examples, load_split
from mofang.make.prepare.feed import feed
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Recipe, algorithms, parse_recipe, recipe_digest
from mofang.make.train.catalog import trainer
from mofang.make.train.store import RunStore, TrainingRun
from mofang.make.workshop import Workshop

Spec = Mapping[str, Any]
Result = dict[str, Any]

_MODEL_FILE = "model.onnx"  # what the onnx engine loads
_PACKAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sklearn": ("scikit-learn", "skl2onnx"),
        "xgboost": ("xgboost-cpu", "xgboost", "onnxmltools"),
        "lightgbm": ("lightgbm", "onnxmltools"),
    }
)
"""What a version's code names, of the packages that are installed: XGBoost comes under two names."""


# --- train: prepare, train, convert, evaluate, register -----------------------------------------------------------


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
        code=_code(*_PACKAGES[recipe.train.framework]),
    )


def _make(recipe: Recipe, record: _Record, tools: Workshop, progress: Progress) -> Result:
    train = trainer(recipe.train)  # before any data is touched
    dataset = tools.datasets.record(prepare(recipe.prepare, tools.blobs, progress))
    gate = parse_gate(recipe.evaluate.gate)
    gate.check_labels(dataset.schema.labels)
    record.note(dataset=dataset.digest)
    _check_task(recipe, dataset)

    trained = train(recipe.train, load_examples(tools.blobs, dataset, recipe.prepare.augment), progress)
    record.note(curve=trained.curve, seconds=trained.seconds)

    features, truth = load_split(tools.blobs, dataset, "test")
    with tools.folder() as folder:
        engine_name, signature, source = _convert(recipe, trained.pipeline, dataset.schema, folder)
        with tools.engine(engine_name, folder) as engine:
            infer = partial(_ask, engine, dataset.schema)
            proof = prove(source, infer, features, progress, tolerance=recipe.convert.tolerance)
            artifact = Artifact(engine_name, tools.keep(folder), signature, dataset.schema.labels)
            record.note(artifact=artifact.digest, conversion=asdict(proof))
            rows = feed(features, dataset.schema, signature)
            report = evaluate(engine, rows, truth, dataset.schema.labels, gate, progress)

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
    return {"run": record.run.id, "evaluation": evaluation.id, **_told(version, created)}


def _check_task(recipe: Recipe, dataset: Dataset) -> None:
    if dataset.task not in recipe.train.tasks:
        what = "numbers" if dataset.task == "regression" else f"{len(dataset.schema.labels)} classes"
        raise InvalidDataset(
            f"algorithm {recipe.train.algorithm!r} does {' and '.join(recipe.train.tasks)}; the target holds {what}",
            hint=f"for {dataset.task}: {', '.join(algorithms(dataset.task))};"
            f' or say what the target is: [prepare] task = "{recipe.train.tasks[0]}"',
        )


def _convert(recipe: Recipe, pipeline: Any, schema: Schema, folder: Path) -> tuple[str, Signature, Callable[..., Any]]:
    """Write the artifact, preparation included; return its engine, its signature, and the source to hold it against."""
    to_onnx, reference = converter(recipe.train.framework)
    if recipe.convert.format == "skops":
        from mofang.make.convert.sklearn import save

        return "sklearn", save(pipeline, folder), partial(reference, pipeline)
    from mofang.make.prepare.onnx import complete

    image = recipe.convert.input == "image" or (recipe.convert.input == "auto" and schema.encoded)
    signature = complete(folder, to_onnx(pipeline, folder), schema, image=image)

    def source(features: NDArray[np.float32]) -> dict[str, Array]:
        if image and not np.isfinite(features).all():
            raise ValueError("a picture has no missing values")
        return reference(pipeline, schema.scaled(features))

    return "onnx", signature, source


def _ask(engine: Engine, schema: Schema, rows: Mapping[str, Array]) -> dict[str, Array]:
    """Ask as a client would: the one array of ``rows`` holds rows as stored."""
    (features,) = rows.values()
    return engine.infer(feed(features, schema, engine.signature))


def _register(
    recipe: Recipe, artifact: Artifact, run: TrainingRun, metrics: dict[str, float], tools: Workshop
) -> tuple[ModelVersion, bool]:
    lineage = Lineage("train", run=run.id, dataset=run.dataset, recipe=run.recipe_digest, code=run.code)
    version, created = tools.registry.register(recipe.name, artifact, lineage, metrics)
    if recipe.register.alias:
        version = tools.registry.set_alias(recipe.name, recipe.register.alias, version.number)
    return version, created


# --- push ---------------------------------------------------------------------------------------------------------


def push_files(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Register uploaded ``spec["files"]`` for ``spec["engine"]`` as a version of ``spec["model"]``.

    Raises InvalidName, InvalidPath, InvalidModel, EngineNotFound or EngineLoadFailed; nothing is registered then.
    """
    model, engine_name = check_name("model", spec["model"]), spec["engine"]
    entries = [FileEntry(**entry) for entry in spec["files"]]
    if engine_name == "onnx":
        entries = _with_model_file(entries)
    with tools.folder() as parent:
        folder = tools.blobs.materialise(entries, parent / "artifact")
        progress.report("convert", 0.5, "looking into the model")
        signature, labels = _look_into(engine_name, folder, tools)
        # Sizes as they are on disk, whatever the upload claimed.
        files = tuple(replace(entry, size_bytes=(folder / entry.path).stat().st_size) for entry in entries)
    artifact = Artifact(engine_name, tuple(sorted(files, key=lambda entry: entry.path)), signature, labels)
    version, created = tools.registry.register(model, artifact, Lineage("push", code=_code()))
    progress.report("register", 1.0, f"{version} {'registered' if created else 'was there already'}")
    return {"signature": asdict(signature), **_told(version, created)}


def _look_into(engine_name: str, folder: Path, tools: Workshop) -> tuple[Signature, tuple[str, ...]]:
    if engine_name == "onnx":
        from mofang.make.convert.onnx import inspect

        inspection = inspect(folder)
        signature, labels = inspection.signature, inspection.labels
        with tools.engine(engine_name, folder) as engine:
            return settled(signature, engine), labels
    with tools.engine(engine_name, folder) as engine:
        return settled(engine.signature, engine), ()


def _with_model_file(entries: Sequence[FileEntry]) -> list[FileEntry]:
    """Give the one graph among the files the name the engine loads; its external data stay beside it."""
    if any(entry.path == _MODEL_FILE for entry in entries):
        return list(entries)
    graphs = [entry for entry in entries if entry.path.endswith(".onnx") and "/" not in entry.path]
    if len(entries) == 1:
        graphs = list(entries)
    if len(graphs) != 1:
        raise InvalidModel(
            f"{len(graphs)} of the {len(entries)} files end in .onnx, one must",
            hint=f"push one model at a time; where it has several files, name the graph {_MODEL_FILE!r}",
        )
    return [replace(entry, path=_MODEL_FILE) if entry is graphs[0] else entry for entry in entries]


# --- evaluate -----------------------------------------------------------------------------------------------------


def evaluate_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Evaluate ``spec["version"]`` on ``spec["dataset"]`` (empty: the one it was made from) with ``spec["gate"]``.

    A gate that fails is a result here, no error.
    """
    gate = parse_gate(spec["gate"])
    version = tools.registry.get(VersionRef.parse(spec["version"]))
    dataset = _dataset_of(version, spec["dataset"], tools)
    features, truth = load_split(tools.blobs, dataset, "test")
    with tools.folder() as root:
        folder = tools.registry.folder(version, root)
        with tools.engine(version.artifact.engine, folder) as engine:
            rows = feed(features, dataset.schema, engine.signature)
            report = evaluate(engine, rows, truth, dataset.schema.labels, gate, progress)
    evaluation = tools.evaluations.record(version.model, version.digest, dataset.digest, report)
    return {"evaluation": evaluation.id, "passed": report.passed}


def _dataset_of(version: ModelVersion, digest: str, tools: Workshop) -> Dataset:
    if not digest and not version.lineage.dataset:
        raise DatasetNotFound(
            f"{version} was pushed, so that nobody knows what data it is for", hint="name a dataset: `--dataset DIGEST`"
        )
    return tools.datasets.get(digest or version.lineage.dataset)


# --- compress -----------------------------------------------------------------------------------------------------


def compress_version(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Make an INT8 variant of ``spec["version"]``; register it if it loses at most ``spec["max_drop"]`` accuracy.

    The variant and its measurements are kept either way; NoVariant tells why it was refused. No alias moves.
    """
    from mofang.make.compress.onnx import TECHNIQUE, quantise

    version = tools.registry.get(VersionRef.parse(spec["version"]))
    if version.artifact.engine != "onnx":
        raise NoVariant(
            f"{version} is computed by engine {version.artifact.engine!r}", hint="only ONNX models can be compressed"
        )
    dataset = _dataset_of(version, "", tools)
    if dataset.task != "classification":
        raise NoVariant(f"{version} does {dataset.task}", hint="only classifiers can be compressed and compared so far")
    features, truth = load_split(tools.blobs, dataset, "test")
    with tools.folder() as root, tools.folder() as target:
        source = tools.registry.folder(version, root)
        progress.report("compress", 0.0, "quantising weights to INT8")
        quantise(source, target)
        with tools.engine("onnx", target) as engine, tools.engine("onnx", source) as parent:
            artifact = Artifact("onnx", tools.keep(target), engine.signature, version.artifact.labels)
            comparison = compare(
                Contestant(engine, artifact.size_bytes),
                Contestant(parent, version.artifact.size_bytes),
                (feed(features, dataset.schema, parent.signature), truth.astype(np.int64), dataset.schema.labels),
                tools.timing_seconds,
                progress,
            )
    refused = refusal(comparison, spec["max_drop"])
    number = 0
    if not refused:
        lineage = Lineage(
            "compress", dataset=dataset.digest, recipe=version.lineage.recipe, code=_code("onnx"), parent=version.digest
        )
        metrics = {"accuracy": comparison.accuracy}
        number = tools.registry.register(version.model, artifact, lineage, metrics)[0].number
    variant = tools.variants.record(
        Variant(version.model, version.digest, TECHNIQUE, artifact.digest, dataset.digest, comparison, refused, number)
    )
    if refused:
        raise NoVariant(
            f"the INT8 variant of {version} was refused: {refused}",
            hint="allow more with `--max-drop`, or keep it as it is",
        )
    progress.report("register", 1.0, f"{version.model}@{number} registered")
    return {"variant": {**asdict(variant), "drop": comparison.drop, "accepted": True}}


# --- all ----------------------------------------------------------------------------------------------------------

JOB_KINDS: Mapping[str, Callable[[Spec, Workshop, Progress], Result]] = MappingProxyType(
    {"train": train_recipe, "push": push_files, "evaluate": evaluate_version, "compress": compress_version}
)


def _told(version: ModelVersion, created: bool) -> Result:
    return {"model": version.model, "version": version.number, "digest": version.digest, "created": created}


def _code(*packages: str) -> str:
    """Name what made a version: Mofang and the frameworks, with their versions."""
    there = {package: version for package in ("mofang", *packages) if (version := _installed(package))}
    return ", ".join(f"{package} {version}" for package, version in there.items())


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return ""
