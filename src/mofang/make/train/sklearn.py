"""Training with scikit-learn: a pipeline with its preprocessing, and the curve of how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.work import Progress
from mofang.make.recipe import Train


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A fitted sklearn Pipeline and its curve: epoch, loss, accuracy (of the validation rows), seconds, rows_per_second."""

    pipeline: Any
    curve: tuple[dict[str, float], ...]
    seconds: float


def train(spec: Train, features: NDArray[np.float32], classes: NDArray[np.int64], progress: Progress) -> TrainedModel:
    """Fit what ``spec`` says to features [rows, n] and class indices [rows]; report loss and accuracy every epoch.

    Raises InvalidDataset if the rows cannot be trained on, TrainingFailed if the loss runs away.
    """
    raise NotImplementedError
