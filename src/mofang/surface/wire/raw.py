"""The raw form of tensors, as the binary tensor extension and gRPC's ``raw_input_contents`` carry them.

Row-major, little-endian, BOOL one byte each, BYTES elements each after their length in four bytes. Servers and clients
share it; neither believes the other.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from mofang.base.domain.errors import TensorData, TensorShape
from mofang.base.domain.tensors import NUMPY, Array, Datatype, datatype_of

MAX_DIMENSION = 2**31 - 1  # what clients in other languages hold in an int
MAX_RANK = 32
_LENGTH = struct.Struct("<I")
_WIRE = {name: dtype.newbyteorder("<") for name, dtype in NUMPY.items()}


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
            f"tensor {name!r}: shape {list(shape)} of {datatype} takes {count * wire.itemsize} bytes, got {len(data)}"
        )
    array: Array = np.frombuffer(data, dtype=wire)
    if datatype == "BOOL" and (array.view(np.uint8) > 1).any():
        raise TensorData(f"tensor {name!r}: a BOOL is a byte of 0 or 1")
    if not array.flags.aligned:  # it stood at an odd place of the body; engines want it aligned
        array = array.copy()
    return array.astype(NUMPY[datatype], copy=False).reshape(shape)


def element_count(name: str, shape: Sequence[int]) -> int:
    """Return how many elements a tensor of ``shape`` has; raise TensorShape if no tensor can have that shape."""
    if len(shape) > MAX_RANK:
        raise TensorShape(f"tensor {name!r} has {len(shape)} dimensions; at most {MAX_RANK} are possible")
    for size in shape:
        if not 0 <= size <= MAX_DIMENSION:
            raise TensorShape(f"tensor {name!r}: {size} is no dimension", hint="give the true size of each dimension")
    count = math.prod(shape)
    if count > MAX_DIMENSION or (not count and math.prod(size or 1 for size in shape) > MAX_DIMENSION):
        raise TensorShape(f"tensor {name!r}: shape {list(shape)} is too large; at most {MAX_DIMENSION} elements")
    return count


def check_count(name: str, found: int, wanted: int, shape: Sequence[int]) -> None:
    """Raise TensorData unless the data has as many values as the shape has places."""
    if found != wanted:
        raise TensorData(f"tensor {name!r}: shape {list(shape)} takes {wanted} values, the data has {found}")


def bytes_array(elements: list[bytes], shape: Sequence[int]) -> Array:
    """Return an object array of ``shape`` that holds ``elements``."""
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(shape)


def _decode_bytes(name: str, data: bytes | memoryview, count: int, shape: Sequence[int]) -> Array:
    elements: list[bytes] = []
    at, end = 0, len(data)
    while at < end and len(elements) < count:
        if at + 4 > end:
            raise TensorData(f"tensor {name!r}: the length of element {len(elements)} is cut off")
        size = _LENGTH.unpack_from(data, at)[0]
        at += 4
        if at + size > end:
            raise TensorData(f"tensor {name!r}: element {len(elements)} says {size} bytes, {end - at} are left")
        elements.append(bytes(data[at : at + size]))
        at += size
    if at != end:
        raise TensorData(f"tensor {name!r}: {end - at} bytes are left over after {count} elements")
    check_count(name, len(elements), count, shape)
    return bytes_array(elements, shape)
