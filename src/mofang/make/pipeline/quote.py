"""A quote job: what a recipe will take on this machine, found by training a little."""

from __future__ import annotations

from dataclasses import asdict, replace

from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Progress
from mofang.make.evaluate.gate import parse_gate
from mofang.make.pipeline.base import base_of
from mofang.make.pipeline.finetune import read_texts
from mofang.make.pipeline.head import encoder_of, head_trainer
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.pipeline.prepare import prepared
from mofang.make.pipeline.run import check_task
from mofang.make.prepare.dataset import Dataset, load_examples
from mofang.make.recipe import Head, Lora, Recipe, parse_recipe, recipe_digest
from mofang.make.train.catalog import trainer, tuner
from mofang.make.train.quote import Estimate, estimate
from mofang.make.workshop import Workshop


def quote_recipe(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Estimate what training ``spec["recipe"]`` takes, and keep that for the run that follows.

    Data is prepared as for training, and no model is made. Raises what the stages raise.
    """
    recipe = parse_recipe(spec["recipe"], spec["filename"], check_gate=parse_gate)
    match recipe.train:
        case Lora():
            dataset, found = _tuning(recipe, tools, progress)
        case Head():
            dataset, found = _heading(recipe, tools, progress)
        case _:
            dataset, found = _training(recipe, tools, progress)
    tools.runs.keep_quote(recipe_digest(spec["recipe"]), asdict(found))
    return {"dataset": dataset.digest, **asdict(found)}


def _training(recipe: Recipe, tools: Workshop, progress: Progress) -> tuple[Dataset, Estimate]:
    train = trainer(recipe.train)
    dataset = prepared(recipe.prepare, tools, progress)
    check_task(recipe, dataset)
    examples = load_examples(tools.blobs, dataset, recipe.prepare.augment)
    return dataset, estimate(recipe.train, examples, train, progress)


def _tuning(recipe: Recipe, tools: Workshop, progress: Progress) -> tuple[Dataset, Estimate]:
    assert isinstance(recipe.train, Lora)
    tune = tuner()
    with base_of(recipe.train.base, tools) as base:
        dataset = prepared(recipe.prepare, tools, progress)
        check_task(recipe, dataset)
        tuned = tune(base.folder, read_texts(recipe.train, base, dataset, tools, progress).read)
        found = estimate(recipe.train, load_examples(tools.blobs, dataset), tuned.train, progress)
    size = sum(entry.size_bytes for entry in base.version.artifact.files)
    return dataset, replace(found, parameters=tuned.parameters(recipe.train), model_bytes=size)


def _heading(recipe: Recipe, tools: Workshop, progress: Progress) -> tuple[Dataset, Estimate]:
    """Estimate the training on vectors; making them is done for it already, as it will be then."""
    assert isinstance(recipe.train, Head)
    train = head_trainer(recipe.train)
    dataset = prepared(recipe.prepare, tools, progress)
    check_task(recipe, dataset)
    version = tools.registry.get(VersionRef.parse(recipe.train.encoder))
    with encoder_of(version, dataset.schema, recipe.train.tokens, tools) as encoder:
        known = encoder.encoded(load_examples(tools.blobs, dataset), progress, "training rows")
    return dataset, estimate(recipe.train, known, train, progress)
