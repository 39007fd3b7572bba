"""Infer requests and answers of the Open Inference Protocol over gRPC, between messages and domain.

Tensors come in ``raw_input_contents`` (all of them, in the order of the inputs) or each in the ``contents`` field of
its datatype; an answer goes back the way the request came. ``server`` calls this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import InvalidRequest, TensorData, TensorName
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Array, datatype_of
from mofang.run.serve.visits import TRACE_RESPONSE
from mofang.surface.protocols.tensors import check_datatype, check_priority, check_supported, number_array
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire.raw import bytes_array, check_count, decode_raw, element_count, encode_raw

_RAW_OUTPUT = bytes((pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2,))  # length and bytes follow
_FIELD: Mapping[str, str] = {  # FP16 has none
    "BOOL": "bool_contents",
    "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def parse_infer(message: Any, traceparent: str | None = None, received: float = 0.0) -> InferRequest:
    """Return what a ModelInferRequest asks. Raises Invalid errors that name the input."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequest(f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs")
    check_supported(message.parameters)
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        if tensor.name in inputs:
            raise TensorName(f"input {tensor.name!r} is given twice")
        check_supported(tensor.parameters)
        inputs[tensor.name] = _decode_raw(tensor, raw[index]) if raw else _decode_contents(tensor)
    outputs = tuple(output.name for output in message.outputs)
    if len(set(outputs)) != len(outputs):
        raise TensorName("an output is asked for twice")
    for output in message.outputs:
        check_supported(output.parameters)
    version, client_id, priority = message.model_version, message.id, _priority(message.parameters)
    return InferRequest(message.model_name, inputs, outputs, version, client_id, traceparent, priority, received)


def render_infer(response: InferResponse, *, raw: bool) -> Any:
    """Return the ModelInferResponse; ``raw`` if the request came so. FP16 goes raw always, and takes the rest along."""
    message = pb.ModelInferResponse(
        model_name=response.endpoint, model_version=str(response.version), id=response.client_id
    )
    raw = raw or any(datatype_of(array) == "FP16" for array in response.outputs.values())
    for name, array in response.outputs.items():
        datatype = datatype_of(array)
        tensor = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(encode_raw(array))
            continue
        values = array.ravel().tolist()
        if datatype == "BYTES":
            values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        getattr(tensor.contents, _FIELD[datatype]).extend(values)
    return message


def _priority(parameters: Any) -> int:
    if "priority" not in parameters:
        return 0
    given = parameters["priority"]
    return check_priority(getattr(given, given.WhichOneof("parameter_choice") or "string_param"))


def render_answer(request: Any, response: InferResponse) -> Any:
    """Return the ModelInferResponse in the form in which ``request`` came."""
    return render_infer(response, raw=bool(request.raw_input_contents) or not request.inputs)


def answer_fields(version: int, revision: int, digest: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that all answers of a version have."""
    return (("mofang-version", str(version)), ("mofang-revision", str(revision)), ("mofang-digest", digest))


def own_fields(answer: InferResponse, request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata that one answer has besides."""
    timing = (("server-timing", answer.timing),) if answer.timing else ()
    trace = ((TRACE_RESPONSE, answer.trace),) if answer.trace else ()
    return (("x-request-id", request_id), *timing, *trace)


def render_rows(revision: Revision, outputs: Mapping[str, Array], rows_of: Sequence[int]) -> list[bytes] | None:
    """Return the messages of answers that were computed together, each with its rows, raw. None if that cannot be."""
    shapes: list[tuple[str, str, tuple[int, ...], int]] = []
    wholes: list[bytes] = []
    for name, array in outputs.items():
        datatype = datatype_of(array)
        if datatype == "BYTES":
            return None
        shapes.append((name, datatype, array.shape[1:], array.nbytes // len(array)))
        wholes.append(encode_raw(array))
    messages: list[bytes] = []
    start = 0
    for rows in rows_of:
        end = start + rows
        parts = _frame_of(revision.endpoint, revision.version, tuple(shapes), rows)
        pieces = [
            part + whole[start * size : end * size]
            for part, whole, (_, _, _, size) in zip(parts, wholes, shapes, strict=True)
        ]
        messages.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        start = end
    return messages


@lru_cache(maxsize=1024)
def _frame_of(
    endpoint: str, version: int, outputs: tuple[tuple[str, str, tuple[int, ...], int], ...], rows: int
) -> list[bytes]:
    """Return what stands before the bytes of each output: before those of the first, all that describes them."""
    message = pb.ModelInferResponse(model_name=endpoint, model_version=str(version))
    for name, datatype, shape, _ in outputs:
        message.outputs.add(name=name, datatype=datatype, shape=(rows, *shape))
    tags = [_RAW_OUTPUT + _varint(rows * size) for _, _, _, size in outputs]
    return [bytes(message.SerializeToString()) + tags[0], *tags[1:]]


def _varint(number: int) -> bytes:
    """Return ``number`` as protobuf writes it: seven bits a byte, the lowest first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def _decode_raw(tensor: Any, data: bytes) -> Array:
    if tensor.HasField("contents"):
        raise TensorData(f"input {tensor.name!r} has both contents and raw contents", hint="send one of them")
    return decode_raw(tensor.name, check_datatype(tensor.name, tensor.datatype), tuple(tensor.shape), data)


def _decode_contents(tensor: Any) -> Array:
    name, shape = tensor.name, tuple(tensor.shape)
    datatype = check_datatype(name, tensor.datatype)
    count = element_count(name, shape)
    if datatype == "FP16":
        raise TensorData(f"input {name!r}: FP16 has no contents field", hint="send it in raw_input_contents")
    field = _FIELD[datatype]
    for found, _ in tensor.contents.ListFields():
        if found.name != field:
            raise TensorData(f"input {name!r} of {datatype} has its data in {found.name}", hint=f"use {field}")
    values = getattr(tensor.contents, field)
    check_count(name, len(values), count, shape)
    if datatype == "BYTES":
        return bytes_array(list(values), shape)
    return number_array(name, datatype, values, shape)
