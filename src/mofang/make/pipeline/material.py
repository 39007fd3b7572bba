"""What a compression job works with: data to learn from, to calibrate with and to be examined on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoNetwork, NoVariant
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.tensors import Array
from mofang.make.compress.exam import Exam
from mofang.make.compress.pick import Objective
from mofang.make.compress.quality import Wanted
from mofang.make.compress.sample import parted, read_sample
from mofang.make.prepare.dataset import Dataset, Examples, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.recipe import Recipe, Train, parse_recipe
from mofang.make.workshop import Workshop

_CALIBRATION_ROWS = 512


class Order(msgspec.Struct, frozen=True):
    """What a compression job is asked; see ``compress_version``."""

    version: str
    max_drop: float | None = 0.005
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    objective: Objective = "balance"
    seconds: float = 600.0
    trials: int = 0
    dataset: str = ""
    calibration: str = ""
    filename: str = ""
    metric: Wanted = "auto"
    teacher: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is known of a version. Without a dataset there is a sample alone, and nobody knows the truth.

    ``network`` is what the version was exported from, if it was trained here.
    """

    exam: Exam
    calibration: Mapping[str, Array]
    examples: Examples | None = None
    dataset: Dataset | None = None
    network: Any = None
    unseen: NDArray[np.int64] | None = None  # which examples it was not trained on, if that is known


def material(version: ModelVersion, order: Order, tools: Workshop) -> Material:
    """Find the data of ``version``: a dataset, or a sample that somebody gave; raise NoVariant if there is neither."""
    signature = version.artifact.signature
    digest = order.dataset or version.lineage.dataset
    if not digest and not order.calibration:
        raise NoVariant(
            f"{version} was pushed, and nobody knows what it is asked: there is nothing to measure its variants on",
            hint="give a sample, `--calibration FILE` (.npy or .npz of its inputs), or a dataset, `--dataset DIGEST`",
        )
    sample: Mapping[str, Array] = {}
    if order.calibration:
        sample = read_sample(tools.blobs.read(order.calibration), order.filename, signature)
    if not digest:
        calibration, held_out = parted(sample)
        return Material(Exam(held_out, wanted=order.metric), calibration)
    dataset = tools.datasets.get(digest)
    if dataset.task == "multilabel":
        raise NoVariant(f"{version} answers several labels for a row; such models are not compressed yet")
    recipe = _recipe(version, tools)
    # Augmented as they were when the version learned from them.
    train = load_examples(tools.blobs, dataset, recipe.prepare.augment if recipe else None)
    test = load_examples(tools.blobs, dataset, split="test")
    exam = Exam(feed(test, signature), test.target, dataset.schema.labels)
    unseen = _unseen(recipe.train, train) if recipe and digest == version.lineage.dataset else None
    known = sample or feed(_some(train), signature)
    return Material(exam, known, train, dataset, _network(version, tools), unseen)


def _recipe(version: ModelVersion, tools: Workshop) -> Recipe | None:
    """Return the recipe that ``version`` was made by; None if it was made in another way."""
    run = tools.runs.get(version.lineage.run) if version.lineage.run else None
    return parse_recipe(run.recipe, "recipe") if run and run.recipe else None


def _unseen(spec: Train, examples: Examples) -> NDArray[np.int64]:
    """Return the training rows that were kept aside for the curve, in whatever framework."""
    return np.flatnonzero(examples.aside(spec.validation_fraction, spec.seed))


def _some(examples: Examples) -> Examples:
    """Return a sample of training rows, the same each time."""
    rows = np.sort(np.random.default_rng(0).permutation(len(examples.features))[:_CALIBRATION_ROWS])
    return examples.some(rows)


def _network(version: ModelVersion, tools: Workshop) -> Any:
    """Return the network the version was exported from; None if it was made in another way, or PyTorch is not here."""
    if not version.lineage.run:
        return None
    try:
        from mofang.make.train.torch.network import load_network

        return load_network(version, tools.runs, tools.blobs)
    except (NoNetwork, ModuleNotFoundError):
        return None
