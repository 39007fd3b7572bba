"""Training with Vowpal Wabbit: a linear model, learned one row after the other.

Rows are read from the disk block by block, in another order every epoch, so that data need not fit into memory.
Called through the catalog; it knows no store and no file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import vowpalwabbit
from numpy.typing import NDArray

from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Train, VowpalWabbit
from mofang.make.train.boosting import Curve, validation_rows
from mofang.make.train.model import Rows, TrainedModel

_BLOCK_ROWS = 8_192
_CHECKED_ROWS = 20_000  # of the validation rows, at most, after every epoch
_LEAST_BITS = 18
_UNBOUND = "1e30"  # else predictions are cut to the range of the targets that were seen


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A trained model: Vowpal Wabbit's own file, and what it learned: weights [features, outputs], bias [outputs].

    ``classes`` is 0 for a number; two classes have one output, more have one each.
    """

    file: bytes
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    classes: int


def train(spec: Train, examples: Examples, progress: Progress) -> TrainedModel:
    """Learn for ``spec.epochs`` epochs. The model is a :class:`Linear`; the same arguments make the same one."""
    assert isinstance(spec, VowpalWabbit)
    target = examples.target
    aside = validation_rows(spec, examples)
    known, checked = np.flatnonzero(~aside), np.flatnonzero(aside)[:_CHECKED_ROWS]
    classes, features = len(examples.schema.labels), examples.schema.features
    curve = Curve(spec.epochs, len(known), target[checked], progress, "epoch")
    kept: tuple[float, Linear] | None = None
    workspace = vowpalwabbit.Workspace(arg_list=[*arguments(spec, classes, features), *_schedule(spec)])
    for epoch in range(spec.epochs):
        for index in _blocks(known, np.random.default_rng((spec.seed, epoch))):
            for line in lines(_rows(examples, index), _labels(target[index], classes)):
                workspace.learn(line)
        loss, error = _quality(workspace, examples, checked, classes)
        curve.add(loss, error)
        if kept is None or loss < kept[0]:
            kept = loss, _taken(workspace, features, classes)
    workspace.finish()
    assert kept is not None
    return TrainedModel(kept[1], tuple(curve.points), curve.seconds)


def arguments(spec: VowpalWabbit, classes: int, features: int) -> list[str]:
    """Return what a model of so many classes (0: a number) and features is called with."""
    bits = max((features * 2 * max(classes, 1)).bit_length() + 1, _LEAST_BITS)  # each feature has a place of its own
    common = [
        "--quiet",
        "--noconstant",
        "-b",
        str(bits),
        "--random_seed",
        str(spec.seed),
        "--l1",
        str(spec.l1),
        "--l2",
        str(spec.l2),
    ]
    if classes == 0:
        return [*common, "--loss_function", "squared", "--min_prediction", f"-{_UNBOUND}", "--max_prediction", _UNBOUND]
    if classes == 2:
        return [*common, "--loss_function", "logistic", "--link", "logistic"]
    return [*common, "--loss_function", "logistic", "--oaa", str(classes), "--probabilities"]


def lines(rows: Rows, labels: list[str] | None = None) -> Iterator[str]:
    """Yield rows [n, d] in Vowpal Wabbit's text format; what is missing or zero is left out.

    A last feature is always 1: the constant that Vowpal Wabbit adds lies where a feature may lie too.
    """
    for number, row in enumerate(rows):
        (there,) = np.nonzero(np.nan_to_num(row))
        told = " ".join(
            f"{column}:{value:.9g}" for column, value in zip(there.tolist(), row[there].tolist(), strict=True)
        )
        yield f"{labels[number] if labels else ''} | {told} {len(row)}:1"


def answers(workspace: Any, rows: Rows, classes: int) -> NDArray[np.float64]:
    """Return what a workspace says: values [n], the probability of the second of two classes, or of each [n, k]."""
    return np.array([workspace.predict(line) for line in lines(rows)], np.float64)


def _schedule(spec: VowpalWabbit) -> list[str]:
    return ["-l", str(spec.learning_rate), "--power_t", str(spec.decay)]


def _blocks(known: NDArray[np.int64], random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the rows in a random order: blocks that lie together, in any order, and the rows of each in any order."""
    blocks = np.array_split(known, max(1, -(-len(known) // _BLOCK_ROWS)))
    for number in random.permutation(len(blocks)):
        yield random.permutation(blocks[number])


def _rows(examples: Examples, index: NDArray[np.int64]) -> Rows:
    order = np.argsort(index)  # the disk is read in its own order
    rows = np.empty((len(index), examples.schema.features), np.float32)
    rows[order] = examples.batch(index[order]).reshape(len(index), -1)
    return rows


def _labels(target: NDArray[Any], classes: int) -> list[str]:
    if classes == 0:
        return [f"{value:.9g}" for value in target.tolist()]
    if classes == 2:
        return ["1" if each else "-1" for each in target.tolist()]
    return [str(each + 1) for each in target.tolist()]


def _quality(workspace: Any, examples: Examples, checked: NDArray[np.int64], classes: int) -> tuple[float, float]:
    found, target = answers(workspace, _rows(examples, checked), classes), examples.target[checked]
    if classes == 0:
        return float(((found - target) ** 2).mean()), 0.0
    both = np.stack([1 - found, found], axis=1) if found.ndim == 1 else found
    right = np.clip(both[np.arange(len(target)), target], 1e-15, 1.0)
    return float(-np.log(right).mean()), float((both.argmax(axis=1) != target).mean())


def _taken(workspace: Any, features: int, classes: int) -> Linear:
    """Copy what the workspace has learned."""
    outputs = classes if classes > 2 else 1
    apart = 1 << (outputs - 1).bit_length()  # slots of one feature: one for each class, rounded up to a power of two
    slots = np.arange(features + 1)[:, None] * apart + np.arange(outputs)
    found = np.array([workspace.get_weight(slot) for slot in slots.ravel().tolist()], np.float32).reshape(slots.shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.vw"
        workspace.save(str(path))
        return Linear(path.read_bytes(), found[:-1], found[-1], classes)
