"""What variants are examined on: held-out rows, with the truth if anybody knows it, and who answers them how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.compress.quality import Quality, Wanted, by_classes, by_numbers, by_parity
from mofang.make.evaluate.suite import BATCH_ROWS, predict, predict_numbers

Answers = Any
"""Classes or numbers [n], or all outputs by name where there is no truth."""


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """Inputs by name, n rows each, and the truth [n]: class indices of ``labels``, numbers, or None."""

    rows: Mapping[str, Array]
    truth: NDArray[Any] | None = None
    labels: tuple[str, ...] = ()
    wanted: Wanted = "auto"

    def answers(self, engine: Engine, progress: Progress) -> Answers:
        """Ask ``engine`` for every row. Raises InvalidModel if the model does not fit the data."""
        if self.truth is None:
            return self._outputs(engine)
        if self.labels:
            return predict(engine, self.rows, self.labels, progress).classes
        return predict_numbers(engine, self.rows, progress)[0]

    def judge(self, found: Answers, parent: Answers, engine: Engine) -> Quality:
        """Compare what a variant answered with what its parent did."""
        if self.truth is None:
            return by_parity(found, parent, engine.signature, self.wanted)
        if self.labels:
            return by_classes(found, parent, self.truth.astype(np.int64))
        return by_numbers(found, parent, self.truth.astype(np.float64))

    def _outputs(self, engine: Engine) -> dict[str, Array]:
        count = len(next(iter(self.rows.values())))
        size = BATCH_ROWS if engine.signature.batchable else 1
        parts = [
            engine.infer({name: array[start : start + size] for name, array in self.rows.items()})
            for start in range(0, count, size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
