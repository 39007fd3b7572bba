"""A training job that puts a classifier on an encoder: prepare, encode once, train, join, prove, evaluate, register."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Artifact, ModelVersion
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.base.engines.reading import Reading
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import prove
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import Closer, evaluate
from mofang.make.pipeline.evaluate import rivals_of
from mofang.make.pipeline.outcome import Result
from mofang.make.pipeline.prepare import prepared
from mofang.make.pipeline.run import Record, check_task, finish, trained
from mofang.make.prepare.dataset import Examples, Schema, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.recipe import Augment, Head, Recipe, Train
from mofang.make.train.catalog import searcher, trainer
from mofang.make.train.model import TrainedModel, Trainer
from mofang.make.workshop import Workshop

_TEXTS = "encoder"  # the engine of text encoders
_BATCH_ROWS = 64


@dataclass(frozen=True, slots=True)
class Encoder:
    """A registered encoder, laid out to take rows as the data set holds them; ``vector`` is the output that is used."""

    version: ModelVersion
    folder: Path
    engine: Engine
    vector: str

    def vectors(self, examples: Examples, progress: Progress, what: str) -> NDArray[np.float32]:
        """Return [n, d] of ``examples``."""
        inputs, rows, found = feed(examples, self.engine.signature), len(examples.features), []
        for start in range(0, rows, _BATCH_ROWS):
            part = {name: array[start : start + _BATCH_ROWS] for name, array in inputs.items()}
            found.append(np.asarray(self.engine.infer(part)[self.vector], np.float32))
            done = min(start + _BATCH_ROWS, rows)
            progress.report("encode", done / rows, f"{what}: {done:,} of {rows:,} rows", rows=done)
        return np.concatenate(found)

    def encoded(self, examples: Examples, progress: Progress, what: str) -> Examples:
        """Return ``examples`` with vectors for features."""
        found = self.vectors(examples, progress, what)
        schema = Schema(found.shape[1], "float32", examples.schema.labels)
        return replace(examples, features=found, schema=schema, augmentation=Augment(), texts={})


def put_head(recipe: Recipe, record: Record, tools: Workshop, progress: Progress) -> Result:
    """Make a version as ``recipe`` says. Raises what the stages raise."""
    spec = recipe.train
    assert isinstance(spec, Head)
    train = head_trainer(spec, tools)  # before any data is touched
    search = searcher() if recipe.search.space else None
    gate = parse_gate(recipe.evaluate.gate)
    version = tools.registry.get(VersionRef.parse(spec.encoder))
    dataset = prepared(recipe.prepare, tools, progress)
    gate.check_labels(dataset.schema.labels)
    record.note(dataset=dataset.digest)
    check_task(recipe, dataset)
    examples, test = (load_examples(tools.blobs, dataset, split=split) for split in ("train", "test"))
    with encoder_of(version, dataset.schema, spec.tokens, tools) as encoder:
        known = encoder.encoded(examples, progress, "training rows")
        found = trained(recipe, train, search, known, record, tools, progress)
        to_onnx, reference = converter("torch")

        def source(features: NDArray[np.float32]) -> dict[str, Array]:
            if test.schema.shape and not np.isfinite(features).all():
                raise ValueError("a picture has no missing values")
            rows = encoder.vectors(replace(test, features=features), progress, "rows to compare")
            return reference(found.pipeline, rows)

        with tools.folder() as folder:
            shutil.copytree(encoder.folder, folder, dirs_exist_ok=True)
            signature = _joined(encoder, to_onnx(found.pipeline, folder / "head"), folder)
            with tools.engine(version.artifact.engine, folder) as engine:
                features = test.features.reshape(len(test.features), -1).astype(np.float32)
                proof = prove(source, lambda asked: _ask(engine, test, asked), features, progress,
                              tolerance=recipe.convert.tolerance)  # fmt: skip
                artifact = Artifact(version.artifact.engine, tools.keep(folder), signature, dataset.schema.labels)
                record.note(artifact=artifact.digest, conversion=asdict(proof))
                with rivals_of(recipe.name, gate.rivals, test, tools) as rivals:
                    closer = Closer(test, recipe.evaluate.slices, rivals)
                    rows = feed(test, signature)
                    report = evaluate(engine, rows, test.target, dataset.schema.labels, gate, progress, closer)
    return finish(recipe, record, artifact, report, tools, progress, parent=version.digest)


def head_trainer(spec: Head, tools: Workshop | None = None) -> Trainer:
    """Return what trains the network on vectors; raise ExtraMissing if PyTorch is not installed."""
    fit = trainer(spec.network, tools.checkpoint if tools else None)

    def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
        assert isinstance(spec, Head)
        return fit(spec.network, examples, progress)

    return train


@contextmanager
def encoder_of(version: ModelVersion, schema: Schema, tokens: int, tools: Workshop) -> Iterator[Encoder]:
    """Lay out and load ``version``, which reads ``tokens`` of a text. Raises InvalidModel if it makes no vectors."""
    name = version.artifact.engine
    if name not in ("onnx", _TEXTS):
        raise InvalidModel(
            f"{version} is served by {name!r}, and is no encoder", hint="push an encoder that is served as ONNX"
        )
    vector = _vector(version)
    with tools.folder() as root, tools.folder() as folder:
        shutil.copytree(tools.registry.folder(version, root), folder, dirs_exist_ok=True)
        if name == "onnx":
            _prepare(folder, version.artifact.signature, schema)
        else:
            Reading(tokens).keep(folder)
        with tools.engine(name, folder) as engine:
            yield Encoder(version, folder, engine, vector)


def _vector(version: ModelVersion) -> str:
    outputs = version.artifact.signature.outputs
    for output in outputs:
        if output.datatype == "FP32" and len(output.shape) == 2 and output.shape[1] > 0:
            return output.name
    raise InvalidModel(f"{version} makes no vectors: it answers {'; '.join(map(str, outputs))}")


def _prepare(folder: Path, signature: Signature, schema: Schema) -> None:
    """Let the graph take rows as they are stored: channels last, before normalisation, or files."""
    from mofang.make.convert.head.onnx import channels_last
    from mofang.make.prepare.onnx import complete

    (spec, *others) = signature.inputs
    if others or spec.datatype != "FP32":
        return
    inner = spec.shape[1:]
    if len(schema.shape) == 3 and inner == (schema.shape[2], *schema.shape[:2]):
        channels_last(folder / "model.onnx", spec.name)
        spec = replace(spec, shape=(-1, *schema.shape))
    complete(folder, replace(signature, inputs=(spec,)), schema, image=schema.encoded)


def _joined(encoder: Encoder, signature: Signature, folder: Path) -> Signature:
    """Make one artifact of encoder and head; return what it takes and gives."""
    if encoder.version.artifact.engine == _TEXTS:
        counted = [each for each in encoder.engine.signature.outputs if each.name == "input_tokens"]
        return Signature(encoder.engine.signature.inputs, (*signature.outputs, *counted))
    from mofang.make.convert.head.onnx import join

    join(folder / "model.onnx", folder / "head" / "model.onnx", encoder.vector)
    shutil.rmtree(folder / "head")
    return Signature(encoder.engine.signature.inputs, signature.outputs)


def _ask(engine: Engine, test: Examples, asked: Mapping[str, Array]) -> dict[str, Array]:
    (features,) = asked.values()
    found = engine.infer(feed(replace(test, features=features), engine.signature))
    return {name: values for name, values in found.items() if name != "input_tokens"}
