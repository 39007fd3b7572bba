"""Several labels by a trainer that knows one class a row: a model for each label, one after the other.

Called by the catalog, for libraries that have no such thing of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Train
from mofang.make.train.model import TrainedModel, Trainer


def each_label(train: Trainer) -> Trainer:
    """Return a trainer whose model, where the target is [n, labels], is a tuple of a model for each label.

    Loss and accuracy of its curve are means over the labels.
    """

    def trained(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
        if examples.target.ndim == 1:
            return train(spec, examples, progress)
        names = examples.schema.labels
        found = []
        for place, name in enumerate(names):
            target = examples.target[:, place].astype(np.int64)
            alone = replace(examples, target=target, schema=replace(examples.schema, labels=("no", "yes")))
            found.append(train(spec, alone, _OneOf(progress, place, len(names), name)))
        return TrainedModel(
            tuple(each.pipeline for each in found),
            tuple(_means([each.curve for each in found])),
            sum(each.seconds for each in found),
        )

    return trained


class _OneOf:
    """A Progress of one label's training: a share of the whole."""

    def __init__(self, progress: Progress, place: int, labels: int, name: str) -> None:
        self._progress, self._place, self._labels, self._name = progress, place, labels, name

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """See :class:`Progress`. A round of one label says nothing of all: of its figures, only words are passed on."""
        self._progress.report(stage, (self._place + fraction) / self._labels, f"label {self._name!r}: {message}")


def _means(curves: Sequence[Sequence[dict[str, float]]]) -> list[dict[str, float]]:
    """Return the mean of curves after every round; a label that ended keeps its last point."""
    rounds = max(map(len, curves))
    points = []
    for at in range(rounds):
        reached = [curve[min(at, len(curve) - 1)] for curve in curves]
        means = {key: float(np.mean([point[key] for point in reached])) for key in ("loss", "accuracy")}
        seconds = sum(point["seconds"] for point in reached)
        speed = float(np.mean([point["rows_per_second"] for point in reached])) / len(curves)
        points.append({"epoch": float(at + 1), **means, "seconds": seconds, "rows_per_second": speed})
    return points
