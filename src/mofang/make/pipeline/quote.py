"""A quote job: what a recipe will take on this machine, found by training a little."""

from __future__ import annotations

from dataclasses import asdict

from mofang.base.domain.work import Progress
from mofang.make.evaluate.gate import parse_gate
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.pipeline.prepare import prepared
from mofang.make.pipeline.train import check_task
from mofang.make.prepare.dataset import load_examples
from mofang.make.recipe import parse_recipe, recipe_digest
from mofang.make.train.catalog import trainer
from mofang.make.train.quote import estimate
from mofang.make.workshop import Workshop


def quote_recipe(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Estimate what training ``spec["recipe"]`` takes, and keep that for the run that follows.

    Data is prepared as for training, and no model is made. Raises what the stages raise.
    """
    recipe = parse_recipe(spec["recipe"], spec["filename"], check_gate=parse_gate)
    train = trainer(recipe.train)
    dataset = prepared(recipe.prepare, tools, progress)
    check_task(recipe, dataset)
    found = estimate(recipe.train, load_examples(tools.blobs, dataset, recipe.prepare.augment), train, progress)
    tools.runs.keep_quote(recipe_digest(spec["recipe"]), asdict(found))
    return {"dataset": dataset.digest, **asdict(found)}
