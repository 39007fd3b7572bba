"""Training as a recipe says. Called through the catalog with prepared examples; it knows no store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mofang.base.domain.errors import InvalidDataset
from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Network, Train
from mofang.make.train.model import TrainedModel, curve_report
from mofang.make.train.torch.batches import Batches, Prepared
from mofang.make.train.torch.loop import Loss, Point, fit
from mofang.make.train.torch.network import Net, blueprint, initialise, write_network

_CHANNELS_AT_ONCE = 16  # training of narrower layers in the faster order ended the process (PyTorch 2.13, two threads)
_ROWS_AT_ONCE = 1_024  # when nothing is learned, and only answers are wanted
_ROWS_TO_SCALE_BY = 10_000


def train(spec: Train, examples: Examples, progress: Progress, checkpoint: Path | None = None) -> TrainedModel:
    """Fit the network that ``spec`` says to the examples; the model is a ``Net``.

    The target is class indices (integers), or numbers (floats). The same arguments make the same weights on one
    machine. Raises InvalidDataset if the rows cannot be trained on, TrainingFailed if the loss runs away.
    """
    assert isinstance(spec, Network)
    known, checked = split(spec, examples)
    net = build(spec, known)
    curve = fit(
        net,
        known,
        spec,
        loss=loss_of(spec, known.examples.target[known.index]),
        measure=lambda net: measure(net, checked, spec.loss),
        watch=lambda epochs, point: _tell(progress, spec, len(known), epochs, point),
        checkpoint=checkpoint,
    )
    net = net.cpu()
    return TrainedModel(net, tuple(curve), curve[-1]["seconds"], write_network(net))


def split(spec: Network, examples: Examples) -> tuple[Prepared, Prepared]:
    """Return what to learn from, and what is kept aside to measure on; raise InvalidDataset if all rows are alike."""
    target = examples.target
    if len(np.unique(target)) < 2:
        what = "numbers that differ" if target.dtype.kind == "f" else "rows of two classes or more"
        raise InvalidDataset(f"training needs {what}")
    aside = examples.aside(spec.validation_fraction, spec.seed)
    return Prepared(examples, np.flatnonzero(~aside)), Prepared(examples, np.flatnonzero(aside))


def build(spec: Network, known: Prepared) -> Net:
    """Return a new network for the examples, scaled to them, on the fastest device here."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what makes products on a GPU repeatable
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(spec.seed)
    net = Net(blueprint(spec, known.examples.schema, several=known.examples.target.ndim == 2))
    initialise(net, spec.initialisation)
    some = torch.linspace(0, len(known) - 1, min(len(known), _ROWS_TO_SCALE_BY)).long()
    net.learn_scale(*known.take(some, None))
    return placed(net)


def placed(net: Net) -> Net:
    """Move ``net`` to where it trains fastest, and return it."""
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    widths = [module.out_channels for module in net.modules() if isinstance(module, nn.Conv2d)]
    if widths and not any(width % _CHANNELS_AT_ONCE for width in widths):
        net.to(memory_format=torch.channels_last)  # the faster order for convolutions
    return net


# --- losses and measures ------------------------------------------------------------------------------------------


def loss_of(spec: Network, target: NDArray[Any]) -> Loss:
    """Return the loss of a batch, as ``spec`` says; numbers are compared in standard deviations of the target."""
    compare = comparison_of(spec, target)
    return lambda net, rows, target: compare(net, net(rows), target)


def comparison_of(spec: Network, target: NDArray[Any]) -> Loss:
    """Return the same loss for those who have what the network found: it takes that in place of the rows."""
    if target.dtype.kind == "f":
        compare = _COMPARISONS[spec.loss]
        return lambda net, found, numbers: compare(found, _scaled(net, numbers))
    if target.ndim == 2:
        return _label_loss(spec, target)
    weights = _class_weights(target) if spec.class_weights == "balanced" else None

    def loss(net: nn.Module, found: Tensor, classes: Tensor) -> Tensor:
        each = None if weights is None else weights.to(found)
        return functional.cross_entropy(found, classes, each, label_smoothing=spec.label_smoothing)

    return loss


def _label_loss(spec: Network, target: NDArray[Any]) -> Loss:
    """Return the binary cross-entropy of several labels; balanced: those that few rows have count as much as others."""
    have = target.sum(axis=0)
    scarce = torch.from_numpy((len(target) - have) / np.maximum(have, 1)).float()
    weights = scarce if spec.class_weights == "balanced" else None

    def loss(net: nn.Module, found: Tensor, labels: Tensor) -> Tensor:
        wanted = labels.to(found) * (1 - spec.label_smoothing) + spec.label_smoothing / 2
        each = None if weights is None else weights.to(found)
        return functional.binary_cross_entropy_with_logits(found, wanted, pos_weight=each)

    return loss


_COMPARISONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto": functional.mse_loss,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}


def _class_weights(target: NDArray[Any]) -> Tensor:
    counts = np.bincount(target)
    return torch.from_numpy(len(target) / (len(counts) * np.maximum(counts, 1))).float()


def _scaled(net: nn.Module, numbers: Tensor) -> Tensor:
    scaled: Tensor = ((numbers - net.target_mean) / net.target_deviation).float()
    return scaled


def measure(net: nn.Module, checked: Batches, loss: str = "auto") -> Point:
    """Return loss and quality on ``checked``: log loss and accuracy of classes; of numbers ``loss`` and R².

    Several labels count as right if all of a row are.

    The loss of numbers is in units of the target, squared unless it is "mae".
    """
    pairs = [*_answered(net, checked)]
    found, target = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    if target.ndim == 2:
        right = ((found > 0) == (target > 0)).all(dim=1).float().mean()
        return {
            "loss": float(functional.binary_cross_entropy_with_logits(found, target.to(found))),
            "accuracy": float(right),
        }
    if not target.is_floating_point():
        right = (found.argmax(dim=1) == target).float().mean()
        return {"loss": float(functional.cross_entropy(found, target)), "accuracy": float(right)}
    wanted = _scaled(net, target.to(net.target_mean.device)).cpu()
    deviation, spread = float(net.target_deviation), float(wanted.var(correction=0))
    squares = float(functional.mse_loss(found, wanted))
    compared = float(_COMPARISONS[loss](found, wanted))
    return {
        "loss": compared * (deviation if loss == "mae" else deviation**2),
        "r2": 1 - squares / spread if spread else 0.0,
    }


def answers(net: nn.Module, rows: Tensor) -> Tensor:
    """Return what ``net`` computes for all ``rows`` [n, ...], on the CPU, in float32."""
    device = next(net.parameters()).device
    with torch.no_grad():
        return torch.cat([net(part.to(device)).float().cpu() for part in rows.split(_ROWS_AT_ONCE)])


def _answered(net: nn.Module, checked: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    for index in torch.arange(len(checked)).split(_ROWS_AT_ONCE):
        rows, target = checked.take(index, None)
        yield answers(net, rows), target


def _tell(progress: Progress, spec: Network, rows: int, epochs: float, point: Point) -> None:
    if "epoch" in point:
        curve_report(progress, int(epochs), spec.epochs, point, rows=int(epochs) * rows)
        return
    message = f"epoch {int(epochs) + 1} of {spec.epochs}: loss {point['loss']:.4f}"
    progress.report("train", epochs / spec.epochs, message, rows=int(epochs * rows), **point)
