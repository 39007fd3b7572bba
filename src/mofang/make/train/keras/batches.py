"""What Keras draws batches from: prepared examples, in another order every epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.make.prepare.dataset import Examples
from mofang.make.recipe import Network
from mofang.make.train.keras.layers import keras


def batches(spec: Network, examples: Examples, known: NDArray[np.int64], size: int) -> Any:
    """Return what Keras draws batches from: another order and other augmentation every epoch, by the seed."""
    classes, target = len(examples.schema.labels), examples.target
    weights = np.ones(max(classes, 1))
    if target.ndim == 1 and classes and spec.class_weights == "balanced":
        counts = np.bincount(target[known], minlength=classes)
        weights = len(known) / (classes * np.maximum(counts, 1))

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # a class of Keras
        epoch = 0

        def __len__(self) -> int:
            return math.ceil(len(known) / size)

        def __getitem__(self, number: int) -> tuple[Any, ...]:
            if number == 0 or not hasattr(self, "order"):
                self.order = np.random.default_rng((spec.seed, self.epoch)).permutation(known)
            index = self.order[number * size : (number + 1) * size]
            random = np.random.default_rng((spec.seed, self.epoch, number))
            rows = examples.batch(index, random).reshape(len(index), -1)
            if target.ndim == 2:
                return rows, target[index].astype(np.float32)
            if not classes:
                return rows, target[index].astype(np.float32)[:, None]
            return rows, np.eye(classes, dtype=np.float32)[target[index]], weights[target[index]].astype(np.float32)

        def on_epoch_end(self) -> None:
            self.epoch += 1

    return Batches()
