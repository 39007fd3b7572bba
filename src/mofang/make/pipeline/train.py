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

from mofang.base.domain.errors import ConversionFailed, LeaseLost
from mofang.base.domain.registry import Artifact
from mofang.base.domain.tensors import Array, Signature
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import prove
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.suite import Closer, evaluate
from mofang.make.pipeline.evaluate import rivals_of
from mofang.make.pipeline.finetune import finetune
from mofang.make.pipeline.head import put_head
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.pipeline.prepare import prepared
from mofang.make.pipeline.run import Record, check_task, finish, new_run, trained
from mofang.make.prepare.dataset import Examples, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.recipe import Head, Lora, Recipe, Train, parse_recipe
from mofang.make.train.catalog import searcher, trainer
from mofang.make.workshop import Workshop

_OTHERWISE: Mapping[type[Train], Callable[[Recipe, Record, Workshop, Progress], Result]] = MappingProxyType(
    {Lora: finetune, Head: put_head}
)
"""Algorithms that go on from a registered version, and what makes versions by them."""


def train_recipe(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Make a version from ``spec["recipe"]`` (text; ``spec["filename"]`` names it in messages).

    Raises InvalidRecipe before any data is touched, and what the stages raise; run and evaluation are kept also then.
    """
    recipe = parse_recipe(spec["recipe"], spec["filename"], check_gate=parse_gate)
    record = Record(tools.runs, new_run(recipe, spec["recipe"], tools))
    try:
        make = next((make for kind, make in _OTHERWISE.items() if isinstance(recipe.train, kind)), _make)
        return make(recipe, record, tools, progress)
    except LeaseLost:  # another worker goes on with this very run
        raise
    except Exception as error:
        record.fail(error)
        raise


def _make(recipe: Recipe, record: Record, tools: Workshop, progress: Progress) -> Result:
    train = trainer(recipe.train, tools.checkpoint)  # before any data is touched
    search = searcher() if recipe.search.space else None
    dataset = prepared(recipe.prepare, tools, progress)
    gate = parse_gate(recipe.evaluate.gate)
    gate.check_labels(dataset.schema.labels, several=dataset.task == "multilabel")
    record.note(dataset=dataset.digest)
    check_task(recipe, dataset)

    examples = load_examples(tools.blobs, dataset, recipe.prepare.augment)
    found = trained(recipe, train, search, examples, record, tools, progress)

    test = load_examples(tools.blobs, dataset, split="test")
    features = test.features.reshape(len(test.features), -1).astype(np.float32)
    with tools.folder() as folder:
        engine_name, signature, source = _convert(recipe, found.pipeline, test, folder)
        with tools.engine(engine_name, folder) as engine:
            infer = partial(_ask, engine, test)
            proof = prove(source, infer, features, progress, tolerance=recipe.convert.tolerance)
            artifact = Artifact(engine_name, tools.keep(folder), signature, dataset.schema.labels)
            record.note(artifact=artifact.digest, conversion=asdict(proof))
            rows = feed(test, signature)
            with rivals_of(recipe.name, gate.rivals, test, tools) as rivals:
                closer = Closer(test, recipe.evaluate.slices, rivals)
                report = evaluate(engine, rows, test.target, dataset.schema.labels, gate, progress, closer)
    return finish(recipe, record, artifact, report, tools, progress)


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
