"""What a compression job works with: data to learn from, to calibrate with and to be examined on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from mofang.base.domain.errors import NoNetwork, NoVariant
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.tensors import Array
from mofang.make.compress.exam import Exam
from mofang.make.compress.pick import Objective
from mofang.make.compress.quality import Wanted
from mofang.make.compress.sample import parted, read_sample
from mofang.make.prepare.dataset import Dataset, Examples, load_examples
from mofang.make.prepare.feed import feed
from mofang.make.recipe import parse_recipe
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
    train, test = _learned(version, dataset, tools), load_examples(tools.blobs, dataset, split="test")
    exam = Exam(feed(test, signature), test.target, dataset.schema.labels)
    return Material(exam, sample or feed(_some(train), signature), train, dataset, _network(version, tools))


def _learned(version: ModelVersion, dataset: Dataset, tools: Workshop) -> Examples:
    """Return the training rows, augmented as they were when the version learned from them."""
    run = tools.runs.get(version.lineage.run) if version.lineage.run else None
    augmentation = parse_recipe(run.recipe, "recipe").prepare.augment if run and run.recipe else None
    return load_examples(tools.blobs, dataset, augmentation)


def _some(examples: Examples) -> Examples:
    """Return a sample of training rows, the same each time."""
    rows = np.sort(np.random.default_rng(0).permutation(len(examples.features))[:_CALIBRATION_ROWS])
    return replace(examples, features=examples.features[rows], target=examples.target[rows])


def _network(version: ModelVersion, tools: Workshop) -> Any:
    """Return the network the version was exported from; None if it was made in another way, or PyTorch is not here."""
    if not version.lineage.run:
        return None
    try:
        from mofang.make.train.torch.network import load_network

        return load_network(version, tools.runs, tools.blobs)
    except (NoNetwork, ModuleNotFoundError):
        return None
