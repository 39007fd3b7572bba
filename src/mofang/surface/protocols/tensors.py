"""What every protocol of the Open Inference family checks of a tensor: its datatype, its parameters, its numbers.

The raw form of tensors is in ``surface/wire/raw.py``, since clients read and write it too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, cast

import numpy as np

from mofang.base.domain.errors import InvalidRequest, TensorData, TensorDatatype
from mofang.base.domain.tensors import DATATYPES, NUMPY, Array, Datatype

_LEVELS, _USUAL_LEVEL = 9, 5
_UNSUPPORTED = {
    "shared_memory_region": "shared memory is not served; send the data in the request",
    "sequence_id": "sequences with a state are not served; send requests that stand alone",
    "classification": "the classification extension is not served; ask for the scores and sort them",
}


def check_datatype(name: str, datatype: str) -> Datatype:
    """Return ``datatype`` if the protocol has it; else raise TensorDatatype, naming the nearest."""
    if datatype in NUMPY:
        return cast(Datatype, datatype)
    near = get_close_matches(datatype.upper()[:16], DATATYPES, n=1, cutoff=0.3)
    hint = f"did you mean {near[0]}? " if near else ""
    raise TensorDatatype(
        f"input {name!r}: {datatype[:40]!r} is no datatype", hint=f"{hint}known are {', '.join(DATATYPES)}"
    )


def check_supported(parameters: Iterable[str]) -> None:
    """Raise InvalidRequest for a parameter that would change the meaning of the answer, and is not served."""
    for name in parameters:
        if name in _UNSUPPORTED:
            raise InvalidRequest(f"parameter {name!r}: {_UNSUPPORTED[name]}")


def check_priority(level: object) -> int:
    """Return the priority of a request whose parameter ``priority`` is ``level``: 1 to 9, 1 goes first; 0 means 5.

    Raises InvalidRequest. The levels are read as Triton does; they order the requests of one tenant.
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= _LEVELS:
        raise InvalidRequest(
            f"parameter 'priority' is {level!r}; it takes 1 (goes first) to {_LEVELS}, or 0 for the usual"
        )
    return _USUAL_LEVEL - level if level else 0


def number_array(name: str, datatype: Datatype, numbers: Sequence[float], shape: Sequence[int]) -> Array:
    """Return an array of checked Python numbers; raise TensorData if one is out of the datatype's range.

    ``numbers`` are already known to be of the right sort (bool, int or finite float) and of the right count.
    """
    try:
        if datatype == "FP32":  # struct raises where numpy would make a number infinite, and it is faster
            return np.ndarray(shape, np.float32, _floats(len(numbers)).pack(*numbers))
        return np.array(numbers, dtype=NUMPY[datatype]).reshape(shape)
    except OverflowError:
        raise _out_of_range(name, datatype, numbers) from None


@lru_cache(maxsize=64)
def _floats(count: int) -> struct.Struct:
    return struct.Struct(f"={count}f")


def _out_of_range(name: str, datatype: Datatype, numbers: Sequence[float]) -> TensorData:
    if datatype == "FP32":
        low, high = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)
    else:
        limits = np.iinfo(cast("np.dtype[np.integer[Any]]", NUMPY[datatype]))
        low, high = limits.min, limits.max
    at = next((i for i, number in enumerate(numbers) if not low <= number <= high), 0)
    return TensorData(f"input {name!r}: value {at} is {numbers[at]!r}, a {datatype} goes from {low} to {high}")
