"""A preparation job: data is read, cleaned, split and looked at, and nothing is trained."""

from __future__ import annotations

from mofang.base.domain.work import Progress
from mofang.make.evaluate.gate import parse_gate
from mofang.make.pipeline.outcome import Result, Spec
from mofang.make.prepare.dataset import Dataset, load_examples
from mofang.make.prepare.prepare import prepare
from mofang.make.prepare.sheet import sheet_of
from mofang.make.recipe import Prepare, parse_recipe
from mofang.make.workshop import Workshop


def prepare_recipe(spec: Spec, tools: Workshop, progress: Progress) -> Result:
    """Prepare what ``spec["recipe"]`` names. Raises InvalidRecipe, and what reading data raises."""
    recipe = parse_recipe(spec["recipe"], spec["filename"], check_gate=parse_gate)
    dataset = prepared(recipe.prepare, tools, progress)
    return {"dataset": dataset.digest, "name": dataset.name, "rows": {n: s.rows for n, s in dataset.splits.items()}}


def prepared(spec: Prepare, tools: Workshop, progress: Progress) -> Dataset:
    """Prepare data, record it, and keep its sheet; what it warns of is reported."""
    with tools.folder() as scratch:
        dataset = tools.datasets.record(prepare(spec, tools.blobs, progress, scratch, internal=tools.internal))
    sheet = tools.datasets.find_sheet(dataset.digest)
    if sheet is None:
        train, test = (load_examples(tools.blobs, dataset, split=split) for split in ("train", "test"))
        sheet = sheet_of(train, test)
        tools.datasets.keep_sheet(dataset.digest, sheet)
    for warning in sheet.warnings:
        progress.report("prepare", 1.0, f"look at this: {warning.message}")
    return dataset
