"""What training gives, whatever the framework: the fitted model and the curve of how it came to be.

Every trainer returns a :class:`TrainedModel`; the pipeline hands it to the converter of the same framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.work import Progress
from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Train

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A fitted model of some framework and its curve.

    Points have epoch, loss (log loss, or mean squared error) and accuracy, r2 or perplexity on the validation rows,
    seconds so far, and rows_per_second. ``network`` is a file that has the architecture and the weights, to train or to
    shrink them further; empty where there is no such thing.
    """

    pipeline: Any
    curve: tuple[dict[str, float], ...]
    seconds: float
    network: bytes = b""


Trainer = Callable[[Train, Examples, Progress], TrainedModel]
"""What fits the algorithm of a recipe to examples, and tells how it goes."""


def curve_report(
    progress: Progress, epoch: int, steps: int, point: dict[str, float], unit: str = "epoch", **counted: int
) -> None:
    """Report the newest point of a curve, and what else was counted, e.g. rows."""
    if "perplexity" in point:
        quality = f"perplexity {point['perplexity']:.4g}"
    else:
        quality = f"accuracy {point['accuracy']:.2%}" if "accuracy" in point else f"R² {point['r2']:.4f}"
    progress.report(
        "train", epoch / steps, f"{unit} {epoch} of {steps}: loss {point['loss']:.4f}, {quality}", **point, **counted
    )
