"""A body that is nothing but the bytes of a model's one input: ``Inference-Header-Content-Length: 0``.

The raw binary request of the extension "binary tensor data". Nothing says the shape, so it must follow from the model's
signature and the number of bytes: there is one input, and one size of it at most is not known (of two, the first is
the batch, and taken to be 1). An input of BYTES has one element, the body as it is. All outputs come as binary data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from mofang.base.domain.errors import InvalidRequest, TensorData, TensorName
from mofang.base.domain.inference import InferRequest
from mofang.base.domain.tensors import NUMPY, Array, Signature, TensorSpec
from mofang.run.serve.visits import TRACE_PARENT
from mofang.surface.protocols.oip.codec import JSON_LENGTH, Wants
from mofang.surface.wire.raw import bytes_array, decode_raw

_AS_BINARY = Wants({}, otherwise=True)
_SAY = "say names and shapes in JSON before the data"


def is_bare(headers: Mapping[str, str]) -> bool:
    """Tell whether no JSON stands before the data."""
    return headers.get(JSON_LENGTH) == "0"


def parse_bare(
    endpoint: str, version: str, signature: Signature, headers: Mapping[str, str], body: bytes, received: float = 0.0
) -> tuple[InferRequest, Wants]:
    """Return what the body asks of a model of this ``signature``. Raises TensorName, TensorData, InvalidRequest."""
    if len(signature.inputs) != 1:
        names = ", ".join(repr(spec.name) for spec in signature.inputs)
        raise TensorName(f"{endpoint!r} takes {names}: raw data alone can be but one input", hint=_SAY)
    [spec] = signature.inputs
    inputs = {spec.name: _tensor(spec, body)}
    trace = headers.get(TRACE_PARENT)
    return InferRequest(endpoint, inputs, (), version, "", trace, 0, received), _AS_BINARY


def _tensor(spec: TensorSpec, body: bytes) -> Array:
    if not body:
        raise InvalidRequest("the body is empty")
    if spec.datatype == "BYTES":
        shape = tuple(1 if size < 0 else size for size in spec.shape)
        if math.prod(shape) != 1:
            raise TensorData(f"input {spec}: raw data alone can be but one element", hint=_SAY)
        return bytes_array([body], shape)
    return decode_raw(spec.name, spec.datatype, _shape(spec, len(body)), body)


def _shape(spec: TensorSpec, size_bytes: int) -> tuple[int, ...]:
    """Return the shape that so many bytes must have."""
    unknown = [place for place, size in enumerate(spec.shape) if size < 0]
    shape = [*spec.shape]
    if len(unknown) == 2 and unknown[0] == 0:
        shape[unknown.pop(0)] = 1
    if len(unknown) > 1:
        raise InvalidRequest(f"input {spec}: its shape does not follow from a number of bytes", hint=_SAY)
    for place in unknown:
        shape[place] = 1
        rest = math.prod(shape) * NUMPY[spec.datatype].itemsize
        shape[place] = size_bytes // max(rest, 1)
    return tuple(shape)
