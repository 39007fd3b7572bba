"""Messages that differ from one read before in nothing but the bytes of their tensor: those are read without the rest.

A client sends the same ModelInferRequest again and again, with other numbers in it. In protobuf these stand last, and
what stands before them says how many bytes they are: so the same bytes before them, and the same length, mean the same
request for other numbers. That is tried out when a message is remembered, not believed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mofang.base.domain.errors import MofangError
from mofang.base.domain.tensors import TensorSpec
from mofang.surface.protocols.grpc.codec import parse_infer
from mofang.surface.protocols.grpc.talk import read
from mofang.surface.protocols.lane import check_target
from mofang.surface.wire import inference_pb2 as pb

_CHECKED = frozenset({"BOOL", "BYTES"})  # datatypes whose bytes have to be looked at
_MAX_KNOWN, _MAX_BEFORE = 1024, 1024
_FREE_MISSES = 64  # messages that are new, before it is asked whether reading them twice pays


class KnownMessage(msgspec.Struct, frozen=True, gc=False):
    """What stands ``before`` the bytes of the only input, and what it asks."""

    before: bytes
    endpoint: str
    version: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    priority: int = 0

    def fits(self, inputs: tuple[TensorSpec, ...], outputs: tuple[str, ...]) -> bool:
        """Tell whether it asks rows of that sort, of a model with those outputs, for all of them."""
        if len(inputs) != 1 or self.outputs not in ((), outputs):
            return False
        [row] = inputs
        return (self.name, self.datatype, self.shape[1:]) == (row.name, row.datatype, row.shape[1:])


class KnownMessages:
    """Remembers messages that ask for one raw tensor of numbers, without an id."""

    def __init__(self) -> None:
        self._known: dict[int, list[KnownMessage]] = {}  # by the length of the message
        self._last = KnownMessage(b"", "", "", "", "", (), ())
        self._last_size = -1
        self._count = self._misses = self._hits = 0

    def find(self, data: bytes) -> KnownMessage | None:
        """Return what ``data`` asks, if that can be told by what stands before its numbers."""
        size = len(data)
        if size == self._last_size and data.startswith(self._last.before):
            self._hits += 1
            return self._last
        for known in self._known.get(size, ()):
            if data.startswith(known.before):
                self._hits += 1
                self._last, self._last_size = known, size
                return known
        if self._misses > _FREE_MISSES + self._hits // 8:
            return None
        self._misses += 1
        learnt = _learn(data)
        if learnt is not None:
            if self._count >= _MAX_KNOWN:
                self._known.clear()
                self._count = 0
            self._known.setdefault(size, []).append(learnt)
            self._count += 1
        return learnt


def _learn(data: bytes) -> KnownMessage | None:
    """Read ``data`` with care; return what it means if its numbers may be exchanged for others."""
    try:
        message = read(pb.ModelInferRequest, data)
        asked = parse_infer(message)
        check_target(asked.endpoint, asked.version)
    except MofangError:
        return None
    if asked.client_id or len(message.raw_input_contents) != 1:
        return None
    [(name, array)] = asked.inputs.items()
    [tensor], [raw] = message.inputs, message.raw_input_contents
    before = data[: len(data) - len(raw)]
    if not raw or tensor.datatype in _CHECKED or not array.ndim or len(before) > _MAX_BEFORE:
        return None
    if not data.endswith(raw) or not all(_carries(before, bytes((fill,)) * len(raw), message) for fill in (0, 0xA5)):
        return None
    return KnownMessage(
        before, asked.endpoint, asked.version, name, tensor.datatype, tuple(tensor.shape), asked.outputs, asked.priority
    )


def _carries(before: bytes, raw: bytes, message: Any) -> bool:
    """Tell whether ``before`` with other numbers after it is ``message`` with those numbers."""
    expected = pb.ModelInferRequest()
    expected.CopyFrom(message)
    expected.raw_input_contents[0] = raw
    try:
        return bool(pb.ModelInferRequest.FromString(before + raw) == expected)
    except ValueError:
        return False
