"""Whether the rows of a model's input are computed independently, found by trying.

An open first axis is usually a batch, but it may as well be time, or the atoms of one molecule. Requests may share a
call of the engine only if joining them changes no answer; a pushed file does not say, so it is tried once, before it is
registered.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec
from mofang.base.engines.base import Engine

_ROWS = 3
_OPEN_SIZE = 8  # of open axes other than the first
_TOLERANCE = 0.05  # of the largest output: dynamic quantisation scales over the whole batch, and that is no error


def rows_are_independent(engine: Engine) -> bool:
    """Tell whether three made-up rows give the same outputs together as apart; False too if they cannot be computed."""
    signature = engine.signature
    if not signature.batchable:
        return False
    together = sample(signature)
    try:
        joined = engine.infer(together)
        apart = [engine.infer(_row(together, index)) for index in range(_ROWS)]
    except MofangError:
        return False
    return all(_same(joined[name], [answer[name] for answer in apart]) for name in joined)


def settled(signature: Signature, engine: Engine) -> Signature:
    """Return ``signature`` with what was found out about its rows."""
    return Signature(signature.inputs, signature.outputs, independent_rows=rows_are_independent(engine))


def sample(signature: Signature) -> dict[str, Array]:
    """Return inputs of small sizes, and of values that every model should know: 0 to 1."""
    random = np.random.default_rng(0)
    return {spec.name: _tensor(spec, random) for spec in signature.inputs}


def _tensor(spec: TensorSpec, random: np.random.Generator) -> Array:
    sizes = ((_OPEN_SIZE if axis else _ROWS) if size < 0 else size for axis, size in enumerate(spec.shape))
    shape = tuple(sizes)
    if spec.datatype == "BYTES":
        return np.array([b"%d" % n for n in random.integers(0, 9, int(np.prod(shape)))], np.object_).reshape(shape)
    values = random.random(shape) if spec.datatype.startswith("FP") else random.integers(0, 2, shape)
    return values.astype(NUMPY[spec.datatype])


def _row(inputs: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: array[index : index + 1] for name, array in inputs.items()}


def _same(joined: Array, apart: list[Array]) -> bool:
    if any(one.shape != (1, *joined.shape[1:]) for one in apart) or joined.shape[0] != len(apart):
        return False
    stacked = np.concatenate(apart)
    if joined.dtype.kind != "f":
        # A class may tip over where two scores are nearly equal; what is not a batch differs in more than one of three.
        return bool(np.count_nonzero((joined != stacked).reshape(_ROWS, -1).any(axis=1)) <= 1)
    size = float(np.nanmax(np.abs(stacked))) if stacked.size else 0.0
    return bool(np.allclose(joined, stacked, rtol=0, atol=_TOLERANCE * size + 1e-6, equal_nan=True))
