"""Requests of several lengths in one batch: shorter ones are padded, and their answers cut back. No event loop.

An owner says what each input is padded with; that this changes no answer is tried when a replica loads, not believed.
A model takes such padding if it has a mask, or looks at nothing behind a step. Only lengths that are close share
a batch, so that padding wastes little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mofang.base.domain.errors import MofangError, PaddingRefused
from mofang.base.domain.inference import Call
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec
from mofang.base.engines.base import Engine

MASK = "mask"
_TRIALS = ((5, 8), (13, 16), (3, 12), (20, 64))  # lengths: of the shorter request, and of the longer one
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5  # what answers of floats may differ by, of the largest number in them, and at all
_HALF = 20.0  # times as much if they are of half precision


class Padding:
    """Pads inputs of a model along their open dimension, one for each, in which all of a request have one length.

    ``values`` names every input that has one, with what stands where nothing is; :data:`MASK` is 0 in an input that has
    1 where something is. ``cut`` are the dimensions of outputs that have the length too, by their names.
    """

    def __init__(self, signature: Signature, values: Mapping[str, int | str], where: str) -> None:
        """Take what an owner says of the model at ``where``. Raises PaddingRefused."""
        self.values = {name: _number(name, value) for name, value in values.items()}
        self.masks = frozenset(name for name, value in values.items() if value == MASK)
        self.cut: Mapping[str, tuple[int, ...]] = {}
        if not signature.batchable:
            raise PaddingRefused(f"requests of {where} are never computed together")
        specs = {spec.name: spec for spec in signature.inputs}
        if unknown := sorted(values.keys() - specs.keys()):
            raise PaddingRefused(f"{where} has no input {unknown[0]!r}: it takes {', '.join(map(repr, specs))}")
        self.axes = {name: axis for name, spec in specs.items() if (axis := _axis(spec, name in values, where))}
        for name, value in self.values.items():
            if not _fits(value, NUMPY[specs[name].datatype]):
                raise PaddingRefused(f"input {name!r} of {where} is {specs[name].datatype}: {value} is none")

    def length(self, call: Call) -> int:
        """Return the length of a call; 0 if its inputs have several."""
        lengths = {call.inputs[name].shape[axis] for name, axis in self.axes.items()}
        return lengths.pop() if len(lengths) == 1 else 0

    def join(self, calls: Sequence[Call]) -> dict[str, Array]:
        """Return the rows of all calls, as long as those of the longest."""
        longest = max(map(self.length, calls))
        return {
            name: np.concatenate([self._padded(name, call.inputs[name], longest) for call in calls])
            for name in calls[0].inputs
        }

    def back(self, outputs: Mapping[str, Array], call: Call) -> dict[str, Array]:
        """Return the answer to a call without what belongs to no part of it."""
        length, found = self.length(call), dict(outputs)
        for name, axes in self.cut.items():
            for axis in axes:
                found[name] = found[name][(slice(None),) * axis + (slice(length),)]
        return found

    def _padded(self, name: str, array: Array, length: int) -> Array:
        axis = self.axes.get(name)
        if axis is None or array.shape[axis] == length:
            return array
        missing = (*array.shape[:axis], length - array.shape[axis], *array.shape[axis + 1 :])
        return np.concatenate([array, np.full(missing, self.values[name], array.dtype)], axis)


def bucket(length: int) -> int:
    """Return what is equal for lengths that may share a batch: the longest is at most half as long again."""
    if length < 1:
        return length
    whole = 1 << (length - 1).bit_length()
    return whole * 3 // 4 if length <= whole * 3 // 4 else whole


def prove(engine: Engine, values: Mapping[str, int | str]) -> Padding:
    """Return the padding of a model, once it answered the same with it as without. Raises PaddingRefused.

    Requests of made-up numbers are computed alone, and then a shorter with a longer one. Numbers of whole inputs are
    small, so that they are tokens of any vocabulary.
    """
    padding = Padding(engine.signature, values, "the model")
    tried = [_try(engine, padding, *lengths, np.random.default_rng(lengths)) for lengths in _TRIALS]
    if not any(tried):
        raise PaddingRefused("padding cannot be tried: the model does not compute what was made up for it")
    return padding


def _try(engine: Engine, padding: Padding, short: int, long: int, numbers: np.random.Generator) -> bool:
    """Compare answers with and without padding; False if the model computes no inputs of these lengths."""
    calls = [_made_up(engine.signature, padding, length, numbers) for length in (short, long)]
    try:
        alone = [engine.infer(call.inputs) for call in calls]
    except MofangError:
        return False
    together = engine.infer(padding.join(calls))
    padding.cut = {
        name: tuple(axis for axis in range(1, array.ndim) if array.shape[axis] < together[name].shape[axis])
        for name, array in alone[0].items()
    }
    for row, (call, answer) in enumerate(zip(calls, alone, strict=True)):
        own = padding.back({name: array[row : row + 1] for name, array in together.items()}, call)
        for name, array in answer.items():
            if not _equal(own[name], array):
                raise PaddingRefused(
                    f"output {name!r} is another for {padding.length(call)} steps that are padded to {long}",
                    hint="a model that takes padding has a mask, or looks at nothing behind a step; deploy it without",
                )
    return True


def _made_up(signature: Signature, padding: Padding, length: int, numbers: np.random.Generator) -> Call:
    inputs = {spec.name: _numbers(spec, padding, length, numbers) for spec in signature.inputs}
    return Call("padding", "", inputs, 1, math.inf)


def _numbers(spec: TensorSpec, padding: Padding, length: int, numbers: np.random.Generator) -> Array:
    shape = (1, *(length if size < 0 else size for size in spec.shape[1:]))
    dtype = NUMPY[spec.datatype]
    if spec.name in padding.masks or spec.datatype == "BOOL":
        return np.ones(shape, dtype)
    if dtype.kind == "f":
        return numbers.standard_normal(shape).astype(dtype)
    if dtype.kind == "O":
        return np.full(shape, b"1", dtype)
    return numbers.choice([each for each in range(4) if each != padding.values.get(spec.name)], shape).astype(dtype)


def _equal(found: Array, expected: Array) -> bool:
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind != "f":
        return bool(np.array_equal(found, expected))
    times = _HALF if expected.dtype.itemsize < 4 else 1.0
    largest = float(np.nanmax(np.abs(expected), initial=0.0))
    return bool(np.allclose(found, expected, 0.0, times * (_ABSOLUTE + _RELATIVE * largest), equal_nan=True))


def _number(name: str, value: int | str) -> int:
    try:
        return 0 if value == MASK else int(value)
    except ValueError:
        raise PaddingRefused(f"{name!r} is padded with a whole number or {MASK!r}, not {value!r}") from None


def _axis(spec: TensorSpec, padded: bool, where: str) -> int | None:
    """Return the dimension of an input that is open besides its rows; None if there is none."""
    axes = [axis for axis, size in enumerate(spec.shape) if axis and size < 0]
    if len(axes) == padded == 1 and spec.datatype != "BYTES":
        return axes[0]
    if not axes and not padded:
        return None
    said = "one dimension that is open besides that of rows, and numbers"
    raise PaddingRefused(
        f"input {spec.name!r} of {where} is {spec}: what is padded has {said}"
        if padded
        else f"input {spec.name!r} of {where} is open too: say what it is padded with"
    )


def _fits(value: int, dtype: np.dtype[np.generic]) -> bool:
    if dtype.kind == "f":
        return True
    if dtype.kind == "b":
        return value in (0, 1)
    bounds = np.iinfo(dtype)  # type: ignore[type-var]
    return bool(bounds.min <= value <= bounds.max)
