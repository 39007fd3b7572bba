"""The raw form of tensors, as the binary tensor extension and gRPC's ``raw_input_contents`` carry them.

Row-major, little-endian, BOOL one byte each, BYTES elements each after their length in four bytes. Servers and clients
share it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from mofang.base.domain.errors import TensorData
from mofang.base.domain.tensors import NUMPY, Array, Datatype, datatype_of

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
    """Return the array that ``data`` holds, read-only and sharing its memory where possible; raise TensorData."""
    if datatype == "BYTES":
        elements = np.array([None, *_split(name, data)], dtype=object)[1:]  # None: never a string array
        return elements.reshape(shape)
    try:
        return np.frombuffer(data, dtype=_WIRE[datatype]).astype(NUMPY[datatype], copy=False).reshape(shape)
    except ValueError as error:
        raise TensorData(f"tensor {name!r}: {len(data)} bytes are no {datatype} of shape {list(shape)}") from error


def _split(name: str, data: bytes | memoryview) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + _LENGTH.unpack_from(data, at)[0] if at + 4 <= len(data) else len(data) + 1
        if end > len(data):
            raise TensorData(f"tensor {name!r}: element {len(elements)} is cut off")
        elements.append(bytes(data[at + 4 : end]))
        at = end
    return elements
