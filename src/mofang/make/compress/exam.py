"""What variants are examined on: held-out rows, with the truth if anybody knows it, and who answers them how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Array
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.quality import Quality, Wanted, by_classes, by_numbers, by_parity
from mofang.make.evaluate.suite import BATCH_ROWS, predict, predict_numbers

Answers = Any
"""Classes or numbers [n], or all outputs by name where there is no truth."""


class Examiner(Protocol):
    """Whoever tells what a variant is worth beside its parent."""

    def judge(self, folder: Path, progress: Progress) -> Quality:
        """Ask the variant in ``folder``; raise NoVariant if a client of the parent could not."""
        ...


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


class Examined:
    """The :class:`Examiner` of what takes rows, whose parent is loaded and has answered."""

    def __init__(self, exam: Exam, name: str, parent: Engine, progress: Progress) -> None:
        """Ask ``parent``, which the engine called ``name`` computes."""
        self._exam, self._name, self._parent = exam, name, parent
        self._answers = exam.answers(parent, progress)

    def judge(self, folder: Path, progress: Progress) -> Quality:
        """See :class:`Examiner`."""
        with loaded(self._name, folder) as engine:
            _check_same(engine, self._parent)
            return self._exam.judge(self._exam.answers(engine, progress), self._answers, engine)


@contextmanager
def loaded(engine: str, folder: Path) -> Iterator[Engine]:
    """Load an artifact, and let it go at the end."""
    made = load_engine(engine, folder)
    try:
        yield made
    finally:
        made.close()


def _check_same(engine: Engine, original: Engine) -> None:
    """Raise NoVariant if a client of the original could not ask the variant."""

    def interface(side: Engine) -> list[tuple[str, str, int]]:
        return [
            (spec.name, spec.datatype, len(spec.shape)) for spec in (*side.signature.inputs, *side.signature.outputs)
        ]

    if interface(engine) != interface(original):
        raise NoVariant("its inputs and outputs are no longer those of the original")
