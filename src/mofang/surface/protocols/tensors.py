"""Tensors as every protocol of the Open Inference family carries them: checked shapes, raw bytes.

The raw form is that of the protocol's binary tensor data extension and of gRPC's ``raw_input_contents``: row-major,
little-endian, BOOL one byte each, BYTES elements each after their length in four bytes. REST and gRPC share it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, cast

import numpy as np

from mofang.base.domain.errors import InvalidRequest, TensorData, TensorDatatype, TensorShape
from mofang.base.domain.tensors import DATATYPES, NUMPY, Array, Datatype, datatype_of

MAX_DIMENSION = 2**31 - 1  # what clients in other languages hold in an int
MAX_RANK = 32
_UNSUPPORTED = {
    "shared_memory_region": "shared memory is not served; send the data in the request",
    "sequence_id": "sequences with a state are not served; send requests that stand alone",
    "classification": "the classification extension is not served; ask for the scores and sort them",
}
_LENGTH = struct.Struct("<I")
_WIRE = {name: dtype.newbyteorder("<") for name, dtype in NUMPY.items()}


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


def element_count(name: str, shape: Sequence[int]) -> int:
    """Return how many elements a tensor of ``shape`` has; raise TensorShape if no tensor can have that shape."""
    if len(shape) > MAX_RANK:
        raise TensorShape(f"input {name!r} has {len(shape)} dimensions; at most {MAX_RANK} are possible")
    for size in shape:
        if not 0 <= size <= MAX_DIMENSION:
            raise TensorShape(f"input {name!r}: {size} is no dimension", hint="give the true size of each dimension")
    count = math.prod(shape)
    if count > MAX_DIMENSION:
        raise TensorShape(f"input {name!r}: shape {list(shape)} has {count} elements; at most {MAX_DIMENSION}")
    return count


def check_count(name: str, found: int, wanted: int, shape: Sequence[int]) -> None:
    """Raise TensorData unless the data has as many values as the shape has places."""
    if found != wanted:
        raise TensorData(f"input {name!r}: shape {list(shape)} takes {wanted} values, the data has {found}")


def decode_raw(name: str, datatype: Datatype, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """Return the array that ``data`` holds; it may share memory with ``data``, and be read-only.

    Raises TensorShape and TensorData.
    """
    count = element_count(name, shape)
    if datatype == "BYTES":
        return _decode_bytes(name, data, count, shape)
    wire = _WIRE[datatype]
    if len(data) != count * wire.itemsize:
        raise TensorData(
            f"input {name!r}: shape {list(shape)} of {datatype} takes {count * wire.itemsize} bytes, got {len(data)}"
        )
    array: Array = np.frombuffer(data, dtype=wire)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise TensorData(f"input {name!r}: a BOOL is a byte of 0 or 1")
    if not array.flags.aligned:  # it stood at an odd place of the body; engines want it aligned
        array = array.copy()
    return array.astype(NUMPY[datatype], copy=False).reshape(shape)


def encode_raw(array: Array) -> bytes:
    """Return the raw form of ``array``; str elements of BYTES go as UTF-8. Raises TensorDatatype."""
    datatype = datatype_of(array)
    if datatype != "BYTES":
        return array.astype(_WIRE[datatype], copy=False).tobytes()
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        data = element if isinstance(element, bytes) else str(element).encode()
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


def bytes_array(elements: list[bytes], shape: Sequence[int]) -> Array:
    """Return an object array of ``shape`` that holds ``elements``."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def number_array(name: str, datatype: Datatype, numbers: Sequence[float], shape: Sequence[int]) -> Array:
    """Return an array of checked Python numbers; raise TensorData if one is out of the datatype's range.

    ``numbers`` are already known to be of the right sort (bool, int or finite float) and of the right count.
    """
    try:
        if datatype == "FP32":  # struct raises where numpy would make a number infinite, and it is faster
            return np.frombuffer(struct.pack(f"={len(numbers)}f", *numbers), dtype=np.float32).reshape(shape)
        return np.array(numbers, dtype=NUMPY[datatype]).reshape(shape)
    except OverflowError:
        raise _out_of_range(name, datatype, numbers) from None


def _out_of_range(name: str, datatype: Datatype, numbers: Sequence[float]) -> TensorData:
    if datatype == "FP32":
        low, high = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)
    else:
        limits = np.iinfo(cast("np.dtype[np.integer[Any]]", NUMPY[datatype]))
        low, high = limits.min, limits.max
    at = next((i for i, number in enumerate(numbers) if not low <= number <= high), 0)
    return TensorData(f"input {name!r}: value {at} is {numbers[at]!r}, a {datatype} goes from {low} to {high}")


def _decode_bytes(name: str, data: bytes | memoryview, count: int, shape: Sequence[int]) -> Array:
    elements: list[bytes] = []
    at, end = 0, len(data)
    while at < end and len(elements) < count:
        if at + 4 > end:
            raise TensorData(f"input {name!r}: the length of element {len(elements)} is cut off")
        size = _LENGTH.unpack_from(data, at)[0]
        at += 4
        if at + size > end:
            raise TensorData(f"input {name!r}: element {len(elements)} says {size} bytes, {end - at} are left")
        elements.append(bytes(data[at : at + size]))
        at += size
    if at != end:
        raise TensorData(f"input {name!r}: {end - at} bytes are left over after {count} elements")
    check_count(name, len(elements), count, shape)
    return bytes_array(elements, shape)
