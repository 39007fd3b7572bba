"""Answers of the Open Inference Protocol, from domain to bytes; ``codec`` reads the requests.

``rest`` renders one answer, ``together`` those that were computed as one. JSON, and raw tensors after it if binary
data is wanted. Knows neither sockets nor endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import OutputNotJson
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.tensors import Array, datatype_of
from mofang.surface.protocols.http import header_lines
from mofang.surface.protocols.oip.codec import AS_JSON, Parameters, Wants
from mofang.surface.wire.raw import encode_raw

_ASK_BINARY = "ask for it as binary data (`binary_data`), or over gRPC"
_ENCODER = msgspec.json.Encoder()


class OutputTensor(msgspec.Struct, gc=False, omit_defaults=True):
    """A tensor of an answer: flat data, or how many bytes of it follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Parameters = {}
    data: list[Any] | None = None


class AnswerBody(msgspec.Struct, gc=False, omit_defaults=True):
    """The body of an answer."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


def render_infer(response: InferResponse, wants: Wants) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part if binary data follows it.

    Raises OutputNotJson if an output wanted as JSON has a value JSON cannot write.
    """
    if wants is AS_JSON and len(response.outputs) == 1 and not response.client_id:
        [(name, array)] = response.outputs.items()
        if array.dtype.kind == "f":
            values = _ENCODER.encode(array.ravel().tolist())
            if b"null" not in values:
                told = (name, array.dtype.char, array.shape)
                before, after = _frame_of(response.endpoint, response.version, -1, told)
                return before + values[1:-1] + after, None
    tensors: list[OutputTensor] = []
    raw: list[bytes] = []
    for name, array in response.outputs.items():
        tensor = OutputTensor(name, datatype_of(array), array.shape)
        if wants.memory is not None and (place := wants.placed.get(name)) is not None:
            size = wants.memory.store(name, array, place)
            tensor.parameters = {
                "shared_memory_region": place.region,
                "shared_memory_byte_size": size,
                "shared_memory_offset": place.offset,
            }
        elif wants.binary.get(name, wants.otherwise):
            raw.append(encode_raw(array))
            tensor.parameters = {"binary_data_size": len(raw[-1])}
        else:
            tensor.data = _json_data(name, tensor.datatype, array)
        tensors.append(tensor)
    answer = AnswerBody(response.endpoint, str(response.version), tensors, response.client_id)
    text = _ENCODER.encode(answer)
    if b"null" in text:  # how the encoder writes NaN and infinity; the word may also be data
        _check_finite(response, wants)
    return (b"".join((text, *raw)), len(text)) if raw else (text, None)


def render_rows(
    revision: Revision, outputs: Mapping[str, Array], rows_of: Sequence[int], wants: Sequence[Wants]
) -> list[bytes] | None:
    """Return the bodies of answers that were computed together, each with its rows; all numbers are written in one go.

    None if that cannot be done: texts, binary data, or a value JSON cannot write.
    """
    if wants.count(AS_JSON) < len(wants):
        return None
    columns: list[list[bytes]] = []
    for array in outputs.values():
        column = _rows_of_json(array)
        if column is None:
            return None
        columns.append(column)
    if len(columns) == 1 and len(columns[0]) == len(rows_of):
        [(name, array)] = outputs.items()
        told = (name, array.dtype.char, array.shape[1:])
        before, after = _frame_of(revision.endpoint, revision.version, 1, told)
        return [b"%b%b%b" % (before, numbers, after) for numbers in columns[0]]
    tensors = [(name, array.dtype.char, array.shape[1:]) for name, array in outputs.items()]
    frames: dict[int, list[bytes]] = {}  # by rows
    bodies: list[bytes] = []
    start = 0
    for rows in rows_of:
        if rows not in frames:
            frames[rows] = _frame_of(revision.endpoint, revision.version, rows, *tensors)
        first, *others = frames[rows]
        pieces = [first]
        for values, part in zip(columns, others, strict=True):
            pieces += (values[start] if rows == 1 else b",".join(values[start : start + rows]), part)
        bodies.append(b"".join(pieces))
        start += rows
    return bodies


def _rows_of_json(array: Array) -> list[bytes] | None:
    """Return the numbers of each row as they stand in JSON; None for what cannot be written so."""
    if array.dtype.kind not in "fiub" or not array.size:
        return None
    rows = array if array.ndim == 2 else array.reshape(len(array), -1)
    text = _ENCODER.encode(rows.tolist())
    return None if b"null" in text else text[2:-2].split(b"],[")


@lru_cache(maxsize=1024)
def answer_lines(version: int, revision: int, digest: str, *, binary: bool) -> bytes:
    """Return the header lines that all answers of a version have."""
    return header_lines(
        [
            ("mofang-version", str(version)),
            ("mofang-revision", str(revision)),
            ("mofang-digest", digest),
            ("content-type", "application/octet-stream" if binary else "application/json"),
        ]
    ).encode()


@lru_cache(maxsize=1024)
def _frame_of(endpoint: str, version: int, rows: int, *tensors: tuple[str, str, tuple[int, ...]]) -> list[bytes]:
    """Return what stands before, between and after the numbers of an answer's outputs; -1 rows: in their shapes.

    Each of ``tensors`` is a name, NumPy's character for its type, and a shape.
    """
    outputs = [
        OutputTensor(name, datatype_of(np.empty(0, code)), shape if rows < 0 else (rows, *shape), data=[])
        for name, code, shape in tensors
    ]
    parts = _ENCODER.encode(AnswerBody(endpoint, str(version), outputs)).split(b'"data":[]')
    opened = [part + b'"data":[' for part in parts[:-1]]
    return [opened[0], *(b"]" + part for part in opened[1:]), b"]" + parts[-1]]


def _json_data(name: str, datatype: str, array: Array) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    if datatype != "BYTES":
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError:
        raise OutputNotJson(f"output {name!r} has bytes that are not UTF-8", hint=_ASK_BINARY) from None


def _check_finite(response: InferResponse, wants: Wants) -> None:
    for name, array in response.outputs.items():
        if array.dtype.kind != "f" or name in wants.placed or wants.binary.get(name, wants.otherwise):
            continue
        if any(value != value or value in (float("inf"), float("-inf")) for value in array.ravel().tolist()):
            raise OutputNotJson(f"output {name!r} has NaN or infinity, which JSON cannot write", hint=_ASK_BINARY)
