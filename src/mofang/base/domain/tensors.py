"""Tensors and signatures: what goes into a model and what comes out.

Datatype names and their sizes are those of the Open Inference Protocol, version 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import TensorDatatype, TensorName, TensorShape

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
Array = NDArray[np.generic]
DATATYPES: tuple[str, ...] = get_args(Datatype)
NUMPY: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_), "UINT8": np.dtype(np.uint8), "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32), "UINT64": np.dtype(np.uint64), "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32), "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16), "FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}  # fmt: skip
_DATATYPE_OF = {dtype: name for name, dtype in NUMPY.items()}


def datatype_of(array: Array) -> Datatype:
    """Return the protocol's name of an array's dtype (str and bytes arrays are BYTES); raise TensorDatatype."""
    if array.dtype.kind in "SUO":
        return "BYTES"
    try:
        return _DATATYPE_OF[array.dtype]  # type: ignore[return-value]
    except KeyError:
        raise TensorDatatype(f"an array of {array.dtype} has no datatype in the protocol") from None


def size_bytes(array: Array) -> int:
    """Return how many bytes of data an array holds; of BYTES, those of its elements."""
    return sum(map(len, array.ravel().tolist())) if array.dtype.hasobject else array.nbytes


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, datatype and shape of one input or output; ``-1`` is a dimension any size fits."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        dims = ", ".join("n" if d < 0 else str(d) for d in self.shape)
        return f"{self.name}: [{dims}] {self.datatype}"


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs and outputs of a model, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    independent_rows: bool = True  # joining requests along the first axis changes no answer

    @property
    def batchable(self) -> bool:
        """Whether requests can be joined along the first axis: it is open in every input and output."""
        return self.independent_rows and all(spec.shape and spec.shape[0] < 0 for spec in (*self.inputs, *self.outputs))


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named array. BYTES tensors hold ``bytes`` objects in an object array."""

    name: str
    array: Array

    @property
    def datatype(self) -> Datatype:
        """The protocol's name of the dtype."""
        return datatype_of(self.array)


def check_inputs(signature: Signature, inputs: Mapping[str, Array], where: str) -> int:
    """Check ``inputs`` against ``signature`` and return the number of rows (1 if it cannot be batched).

    ``where`` names the endpoint in messages. Raises TensorName, TensorDatatype or TensorShape.
    """
    if len(inputs) != len(signature.inputs) or any(spec.name not in inputs for spec in signature.inputs):
        raise _wrong_names(signature, inputs, where)
    rows = -1
    for spec in signature.inputs:
        array = inputs[spec.name]
        if array.dtype != NUMPY[spec.datatype]:
            found = datatype_of(array)
            raise TensorDatatype(f"input {spec.name!r} of {where} takes {spec.datatype}, got {found}")
        shape = array.shape
        if len(shape) != len(spec.shape) or any(d >= 0 and d != n for d, n in zip(spec.shape, shape, strict=True)):
            raise _wrong_shape(spec, shape, where)
        if signature.batchable:
            if rows >= 0 and shape[0] != rows:
                raise TensorShape(f"inputs of {where} disagree on the number of rows: {rows} and {shape[0]}")
            if shape[0] == 0:
                raise TensorShape(f"input {spec.name!r} of {where} has no rows", hint="send at least one row")
            rows = shape[0]
    return max(rows, 1)


class InputCheck:
    """:func:`check_inputs` for one signature, made once: what fits at first sight is not looked at twice."""

    __slots__ = ("_batchable", "_plain", "_signature", "_where")

    def __init__(self, signature: Signature, where: str) -> None:
        self._signature = signature
        self._where = where
        self._batchable = signature.batchable
        self._plain = [
            (spec.name, NUMPY[spec.datatype], spec.shape[1:])
            for spec in signature.inputs
            if spec.shape and spec.shape[0] < 0 and all(size >= 0 for size in spec.shape[1:])
        ]

    def __call__(self, inputs: Mapping[str, Array]) -> int:
        """Return the number of rows. Raises as :func:`check_inputs`."""
        if self._batchable and len(self._plain) == len(inputs) == len(self._signature.inputs):
            rows = 0
            for name, dtype, row in self._plain:
                array = inputs.get(name)
                if array is None or array.dtype != dtype or not array.ndim or array.shape[1:] != row:
                    break
                if rows and len(array) != rows:
                    break
                rows = len(array)
                if not rows:
                    break
            else:
                return rows
        return check_inputs(self._signature, inputs, self._where)


def _wrong_names(signature: Signature, inputs: Mapping[str, Array], where: str) -> TensorName:
    wanted = [spec.name for spec in signature.inputs]
    missing = [name for name in wanted if name not in inputs]
    unknown = [name for name in inputs if name not in wanted]
    problem = f"input {missing[0]!r} is missing" if missing else f"input {unknown[0]!r} is unknown"
    return TensorName(f"{problem}: {where} takes {', '.join(map(repr, wanted))}")


def _wrong_shape(spec: TensorSpec, shape: tuple[int, ...], where: str) -> TensorShape:
    wanted = ", ".join("n" if d < 0 else str(d) for d in spec.shape)
    return TensorShape(
        f"input {spec.name!r} of {where} takes [{wanted}] {spec.datatype}, got {list(shape)}",
        hint="`GET /v2/models/ENDPOINT` tells the signature",
    )
