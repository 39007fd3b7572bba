"""Infer requests of the Open Inference Protocol, from bytes to domain; ``render`` writes the answers.

A body is JSON; with the binary tensor data extension, raw tensors follow it, and the header
``Inference-Header-Content-Length`` says where the JSON ends. Numbers are decoded straight into their type, so that a
wrong one is refused with its place. ``rest`` calls this; it knows neither sockets nor endpoints.

Source: https://github.com/open-inference/open-inference-protocol and the extension "binary tensor data".
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any

import msgspec

from mofang.base.domain.errors import InvalidRequest, TensorData, TensorName, TensorShape
from mofang.base.domain.inference import InferRequest
from mofang.base.domain.tensors import DATATYPES, Array, Datatype
from mofang.run.serve.visits import TRACE_PARENT
from mofang.surface.protocols.regions import Memory, Place, place_of
from mofang.surface.protocols.tensors import check_datatype, check_priority, check_supported, number_array
from mofang.surface.wire.raw import bytes_array, check_count, decode_raw, element_count

JSON_LENGTH = "inference-header-content-length"
_SEND_BINARY = "send this tensor as binary data, or over gRPC"

Parameters = dict[str, bool | int | float | str]


class InputTensor(msgspec.Struct, gc=False):
    """A tensor of a request: flat or nested data, raw bytes behind the JSON, or a place in shared memory."""

    name: str
    datatype: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(DATATYPES)})]
    shape: list[int]
    data: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema={"type": "array"})] | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters = {}


class OutputRequest(msgspec.Struct, gc=False):
    """An output that is wanted, and how."""

    name: str
    parameters: Parameters = {}


class InferBody(msgspec.Struct, gc=False):
    """The body of a request to infer."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[OutputRequest] = []
    parameters: Parameters = {}


class _PlainTensor(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class _PlainBody(msgspec.Struct, gc=False):
    inputs: list[_PlainTensor]


class Wants(msgspec.Struct, frozen=True, gc=False):
    """Which outputs the client wants as binary data: those in ``binary``, the rest as ``otherwise`` says.

    Those that are ``placed`` go into shared memory.
    """

    binary: Mapping[str, bool]
    otherwise: bool
    placed: Mapping[str, Place] = {}  # in shared memory
    memory: Memory | None = None


_BODY = msgspec.json.Decoder(InferBody)
_PLAIN = msgspec.json.Decoder(_PlainBody)
_PLAIN_BYTES = 64 << 10  # decoded before their number is known to be right, larger bodies could cost much memory
AS_JSON = Wants({}, otherwise=False)
_ELEMENT: Mapping[str, type] = {"BOOL": bool, "FP32": float, "FP64": float, "BYTES": str}  # others: int


def parse_infer(
    endpoint: str,
    version: str,
    headers: Mapping[str, str],
    body: bytes,
    received: float = 0.0,
    memory: Callable[[], Memory] | None = None,
) -> tuple[InferRequest, Wants]:
    """Return what the body asks and how the answer is wanted; ``memory`` gives the caller's shared memory.

    Raises Invalid errors that name the place.
    """
    if len(body) <= _PLAIN_BYTES and JSON_LENGTH not in headers and (plain := _plain_inputs(body)):
        return InferRequest(endpoint, plain, (), version, "", headers.get(TRACE_PARENT), 0, received), AS_JSON
    text, raw = _split(headers.get(JSON_LENGTH), body)
    parsed = _decode_body(text)
    _check_duplicate_keys(text, parsed)
    inputs: dict[str, Array] = {}
    at = 0
    for tensor in parsed.inputs:
        if tensor.name in inputs:
            raise TensorName(f"input {tensor.name!r} is given twice")
        size = tensor.parameters.get("binary_data_size")
        if memory is not None and (place := place_of(tensor.parameters)) is not None:
            inputs[tensor.name] = _load(tensor, place, memory())
        elif size is None:
            inputs[tensor.name] = _decode_json(tensor)
        else:
            end = at + _binary_size(tensor, size, len(raw) - at)
            inputs[tensor.name] = _decode_binary(tensor, raw[at:end])
            at = end
    if at != len(raw):
        raise InvalidRequest(f"{len(raw) - at} bytes of binary data belong to no input")
    outputs = tuple(output.name for output in parsed.outputs)
    if len(set(outputs)) != len(outputs):
        raise TensorName("an output is asked for twice")
    wants = _wants(parsed, memory)
    if not wants.otherwise and not any(wants.binary.values()) and not wants.placed:
        wants = AS_JSON
    trace, priority = headers.get(TRACE_PARENT), check_priority(parsed.parameters.get("priority", 0))
    return InferRequest(endpoint, inputs, outputs, version, parsed.id, trace, priority, received), wants


def _plain_inputs(body: bytes) -> dict[str, Array] | None:
    """Return the inputs of the usual body: flat lists of floats and nothing else. None: it must be read with care.

    Where all keys that must be there are, and there are no more strings than those keys, names and datatypes, no key is
    given twice and there is no further one.
    """
    try:
        tensors = _PLAIN.decode(body).inputs
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if body.count(b'"') != 2 + 12 * len(tensors) or not body.isascii():
        return None
    inputs: dict[str, Array] = {}
    for tensor in tensors:
        shape, data = tensor.shape, tensor.data
        if tensor.datatype != "FP32" or not shape or min(shape) < 1 or math.prod(shape) != len(data):
            return None
        inputs[tensor.name] = number_array(tensor.name, "FP32", data, shape)
    return inputs if len(inputs) == len(tensors) else None


def _split(json_length: str | None, body: bytes) -> tuple[bytes, memoryview]:
    if json_length is None:
        return body, memoryview(b"")
    if not (json_length.isascii() and json_length.isdecimal() and len(json_length) <= 12):
        raise InvalidRequest(f"{json_length[:40]!r} is no length; Inference-Header-Content-Length is a number of bytes")
    length = int(json_length)
    if length > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length says {length}, the body has {len(body)} bytes")
    return body[:length], memoryview(body)[length:]


def _decode_body(text: bytes) -> InferBody:
    try:
        if not text.isascii():
            text.decode()  # the decoder checks only the strings it keeps
        return _BODY.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"not an infer request: {error}") from None
    except msgspec.DecodeError as error:
        nonfinite = b"NaN" in text or b"Infinity" in text
        hint = f"JSON has neither NaN nor Infinity; {_SEND_BINARY}" if nonfinite else None
        said = "the JSON is cut off" if "truncated" in str(error) else str(error)
        raise InvalidRequest(said if text else "the body is empty", hint=hint) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the JSON is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None


def _check_duplicate_keys(text: bytes, parsed: InferBody) -> None:
    """Refuse a key given twice in one object; what the decoder would take is not what every reader takes.

    Counting is cheap and may cry wolf (a value may read like a key), so that the slow proof is seldom needed.
    """
    n_inputs = len(parsed.inputs)
    if (
        text.count(b'"inputs"') > 1
        or text.count(b'"outputs"') > 1
        or text.count(b'"id"') > 1
        or text.count(b'"data"') > n_inputs
        or text.count(b'"shape"') > n_inputs
        or text.count(b'"datatype"') > n_inputs
        or text.count(b'"name"') > n_inputs + len(parsed.outputs)
        or text.count(b'"parameters"') > n_inputs + len(parsed.outputs) + 1
    ):
        refuse_duplicates(text)


def refuse_duplicates(text: bytes) -> None:
    """Raise InvalidRequest if a key is given twice in one object of ``text``, which is JSON."""
    json.loads(text, object_pairs_hook=_check_keys, parse_int=str, parse_float=str)


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"the key {key!r} is given twice in one object")
        seen.add(key)


def _binary_size(tensor: InputTensor, size: bool | int | float | str, left: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidRequest(f"input {tensor.name!r}: binary_data_size {size!r} is no number of bytes")
    if size > left:
        raise TensorData(f"input {tensor.name!r}: binary_data_size says {size}, the body has {left} bytes left")
    if tensor.data is not msgspec.UNSET:
        raise TensorData(f"input {tensor.name!r} has both data and binary_data_size", hint="send one of them")
    return size


def _decode_binary(tensor: InputTensor, data: memoryview) -> Array:
    check_supported(tensor.parameters)
    return decode_raw(tensor.name, check_datatype(tensor.name, tensor.datatype), tensor.shape, data)


def _decode_json(tensor: InputTensor) -> Array:
    name, shape = tensor.name, tensor.shape
    datatype = check_datatype(name, tensor.datatype)
    count = element_count(name, shape)
    if tensor.parameters:
        check_supported(tensor.parameters)
    if tensor.data is msgspec.UNSET:
        raise TensorData(f"input {name!r} has no data", hint="give `data`, or `binary_data_size` and the bytes")
    if datatype == "FP16":
        raise TensorData(f"input {name!r}: FP16 cannot be written in JSON", hint=_SEND_BINARY)
    text = bytes(tensor.data)
    if datatype != "BYTES" and count:  # before decoding, so that a false shape costs no memory
        check_count(name, text.count(b",") + 1, count, shape)
    values = _decode_values(name, datatype, shape, text)
    check_count(name, len(values), count, shape)
    if datatype == "BYTES":
        return bytes_array([value.encode() for value in values], shape)
    return number_array(name, datatype, values, shape)


def _decode_values(name: str, datatype: Datatype, shape: list[int], text: bytes) -> list[Any]:
    """Return the values of a flat or a nested array in row-major order."""
    nested = text[1:].lstrip()[:1] == b"["
    element = _ELEMENT.get(datatype, int)
    try:
        values = _values_decoder(element, len(shape) if nested else 1).decode(text)
    except msgspec.DecodeError as error:
        raise TensorData(f"input {name!r} of {datatype} {shape}: {error}") from None
    except UnicodeDecodeError:
        raise TensorData(f"input {name!r}: a string is not UTF-8", hint=_SEND_BINARY) from None
    if not nested:
        return values
    level: list[Any] = [values]
    for size in shape:
        if any(len(part) != size for part in level):
            raise TensorShape(f"input {name!r}: the nesting of the data is not its shape {shape}")
        level = list(chain.from_iterable(level))
    return level


@lru_cache(maxsize=256)
def _values_decoder(element: type, depth: int) -> msgspec.json.Decoder[list[Any]]:
    nested: Any = element
    for _ in range(max(depth, 1)):
        nested = list[nested]
    return msgspec.json.Decoder(nested)


def _load(tensor: InputTensor, place: Place, memory: Memory) -> Array:
    if tensor.data is not msgspec.UNSET or "binary_data_size" in tensor.parameters:
        raise TensorData(f"input {tensor.name!r} has both data and a place in shared memory", hint="send one of them")
    return memory.load(tensor.name, check_datatype(tensor.name, tensor.datatype), tensor.shape, place)


def _wants(parsed: InferBody, memory: Callable[[], Memory] | None) -> Wants:
    otherwise = _flag(parsed.parameters, "binary_data_output")
    if parsed.parameters:
        check_supported(parsed.parameters)
    binary: dict[str, bool] = {}
    placed: dict[str, Place] = {}
    for output in parsed.outputs:
        if memory is not None and (place := place_of(output.parameters)) is not None:
            memory().check(place)
            placed[output.name] = place
        elif output.parameters:
            check_supported(output.parameters)
            if "binary_data" in output.parameters:
                binary[output.name] = _flag(output.parameters, "binary_data")
    return Wants(binary, otherwise, placed, memory() if placed and memory is not None else None)


def _flag(parameters: Parameters, name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name!r} is {value!r}; it takes true or false")
    return value
