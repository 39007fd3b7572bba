"""A pushed network as it looks from outside: what a student is given, and has to answer, to take its place.

Called by the pipeline for a version of which nobody has the layers. Nothing is known of it but its signature, what it
answers, and rows that somebody gave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import Engine
from mofang.make.compress.quality import sums_to_one
from mofang.make.compress.step import Student
from mofang.make.compress.students import instead_of_images, instead_of_numbers
from mofang.make.evaluate.suite import BATCH_ROWS
from mofang.make.prepare.dataset import Examples, Schema

FEWEST_ROWS = 256  # that a student learns from
_FLOAT = "FP32"
_MOST_CHANNELS = 4  # of an image
_LARGEST = 0.5  # share of the original's bytes that the weights of a student may have
_WEIGHT_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """What is ``given``, [n, d] or images, and what is ``told``, [n, k] or [n]; ``rows`` are such as are given.

    ``beliefs``: the probabilities of k classes are told, and not any numbers. ``target`` has the class of each row,
    int64 [n]; it is empty if nobody knows them.
    """

    given: TensorSpec
    told: TensorSpec
    rows: NDArray[np.float32]
    target: NDArray[np.int64]
    beliefs: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers are told of a row."""
        return math.prod(self.told.shape[1:])

    @property
    def channels_first(self) -> bool:
        """Whether rows are images [n, channels, height, width]."""
        return len(self.given.shape) == 4 and self.given.shape[1] <= _MOST_CHANNELS

    def examples(self) -> Examples:
        """Return the rows as our networks take them, images with their channels last, and without a target."""
        rows = np.ascontiguousarray(np.moveaxis(self.rows, 1, -1)) if self.channels_first else self.rows
        shape, labels = rows.shape[1:], tuple(map(str, range(self.outputs)))
        schema = Schema(math.prod(shape), str(rows.dtype), labels, shape=shape if len(shape) > 1 else ())
        return Examples(rows, np.empty(0, np.int64), schema)

    def ask(self, engine: Engine, count: int | None = None) -> NDArray[np.float32]:
        """Return what ``engine`` tells of the rows, or of the first ``count``: float32 [n, k].

        Raises NoVariant if it takes or tells something else than the network, or no finite numbers.
        """
        given, told = engine.signature.inputs, [each for each in engine.signature.outputs if self._fits(each)]
        alike = [(each.datatype, each.shape[1:]) for each in given] == [(_FLOAT, self.given.shape[1:])]
        if not alike or len(told) != 1:
            raise NoVariant(
                f"the teacher takes {'; '.join(map(str, given))} and answers"
                f" {'; '.join(map(str, engine.signature.outputs))}, the original {self.given} and {self.told}"
            )
        size, rows = BATCH_ROWS if engine.signature.batchable else 1, self.rows[:count]
        parts = [
            engine.infer({given[0].name: rows[start : start + size]})[told[0].name]
            for start in range(0, len(rows), size)
        ]
        said = np.concatenate(parts).astype(np.float32).reshape(len(rows), -1)
        if not np.isfinite(said).all():
            raise NoVariant("some answers are no finite numbers, and nothing can be learned from them")
        return said

    def _fits(self, spec: TensorSpec) -> bool:
        return spec.datatype == _FLOAT and bool(spec.shape) and math.prod(spec.shape[1:]) == self.outputs


def look(signature: Signature, rows: Array, target: NDArray[np.int64], engine: Engine) -> Outside:
    """Return the network that ``engine`` computes from outside, with ``rows`` to learn from.

    Raises NoVariant, with the reason, if no student can take its place: it has other inputs and outputs than one of
    floats each, or there are too few rows.
    """
    given, told = ends(signature)
    if len(rows) < FEWEST_ROWS:
        raise NoVariant(
            f"{len(rows)} rows to learn from are too few, {FEWEST_ROWS} are needed; of a sample it is every second row,"
            f" so give {2 * FEWEST_ROWS}"
        )
    numbers = np.ascontiguousarray(rows, np.float32)
    seen = Outside(given, told, numbers, target)
    said = seen.ask(engine, FEWEST_ROWS)
    return Outside(given, told, numbers, target, seen.outputs > 1 and sums_to_one(said.astype(np.float64)))


def ends(signature: Signature) -> tuple[TensorSpec, TensorSpec]:
    """Return the one input and the one output of a network whose place a student can take; raise NoVariant else."""
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise NoVariant("the model has more inputs or outputs than the one of each that a student has")
    (given,), (told,) = signature.inputs, signature.outputs
    for spec, ranks in ((given, (2, 4)), (told, (1, 2))):
        if spec.datatype != _FLOAT or len(spec.shape) not in ranks:
            wanted = " or ".join(map(str, ranks))
            raise NoVariant(f"{spec} is not {_FLOAT} of {wanted} axes, as a student has it")
        if not signature.batchable or min(spec.shape[1:], default=1) < 1:
            raise NoVariant(f"{spec} has not an open first axis alone; `mofang versions edit --shape` fixes others")
    if len(given.shape) == 4 and min(given.shape[1], given.shape[3]) > _MOST_CHANNELS:
        raise NoVariant(f"{given} has no axis of 1 to {_MOST_CHANNELS} channels, first or last, as images have")
    return given, told


def pupils(outside: Outside, size_bytes: int) -> tuple[Student, ...]:
    """Return what may take the place of a network of ``size_bytes``; raise NoVariant if that is small already."""
    if find_spec("torch") is None:
        raise NoVariant("PyTorch is not here; install Mofang with the extra `torch`")
    from mofang.make.train.torch.network import count_parameters

    schema = outside.examples().schema
    known = instead_of_images(*schema.shape[:2]) if schema.shape else instead_of_numbers()
    most = _LARGEST * size_bytes / _WEIGHT_BYTES
    found = tuple(each for each in known if count_parameters(each.network, schema) <= most)
    if not found:
        raise NoVariant(f"no student has less than half of the {size_bytes:,} bytes that the network has")
    return found
