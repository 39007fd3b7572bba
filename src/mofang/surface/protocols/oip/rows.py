"""Bodies that differ from one read before in nothing but their numbers: those are read without the rest.

A client sends the same JSON again and again, with other numbers in it. What stands around the numbers is remembered
with what it means, once the whole has been read with care (``codec``); of the next body only the numbers are decoded,
straight into their place among the rows that are computed together. What does not fit exactly is read with care again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mofang.base.domain.errors import MofangError
from mofang.base.domain.tensors import NUMPY, Array, Datatype, TensorSpec
from mofang.run.serve.party import Party
from mofang.surface.protocols.oip.codec import JSON_LENGTH, Wants, parse_infer

_MAX_KNOWN, _MAX_FRAME_BYTES = 1024, 4096
_FREE_MISSES = 64  # bodies that are new, before it is asked whether reading them twice pays
_CODES: Mapping[Datatype, str] = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_FLOATS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[float])
_INTEGERS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[int])
_BOOLEANS: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[bool])


class Slot(msgspec.Struct, frozen=True, gc=False):
    """One input in a body: which of the signature's it is, and how its numbers become bytes."""

    at: int
    size_bytes: int
    pack: struct.Struct
    numbers: msgspec.json.Decoder[list[Any]]


class KnownBody(msgspec.Struct, frozen=True, gc=False):
    """What stands before the numbers of each input, and after the last; the JSON alone, if numbers come as binary."""

    frame: tuple[bytes, ...]
    slots: tuple[Slot, ...]  # in the order of the body
    rows: int
    wants: Wants
    priority: int


class KnownBodies:
    """Reads the bodies of requests for one signature, whose inputs are numbers, of fixed shapes but for their rows."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: tuple[str, ...]) -> None:
        self._inputs = {spec.name: (at, spec) for at, spec in enumerate(inputs)}
        self._outputs = outputs
        self._known: dict[bytes, KnownBody] = {}
        self._last: KnownBody | None = None
        self._misses = 0
        self.hits = 0

    def read(self, body: bytes, json_length: int, party: Party) -> KnownBody | None:
        """Put the numbers of ``body`` after the rows that ``party`` has; None if there is no room or it is not known.

        ``json_length`` is how much of it is JSON, 0 for all.
        """
        last = self._last
        if last is not None and _fill(last, body, json_length, party):
            return last
        known = self._find(body, json_length)
        if known is None or known is last:
            return None
        self._last = known
        return known if _fill(known, body, json_length, party) else None

    def _find(self, body: bytes, json_length: int) -> KnownBody | None:
        key = body[:json_length] if json_length else b"\0".join(_around(body, _spans(body, len(self._inputs))))
        known = self._known.get(key)
        if known is None and len(key) <= _MAX_FRAME_BYTES and self._misses <= _FREE_MISSES + self.hits // 8:
            self._misses += 1
            known = self._learn(body, json_length)
            if known is not None:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = known
        return known

    def _learn(self, body: bytes, json_length: int) -> KnownBody | None:
        """Read ``body`` with care; return what it means if its numbers may be exchanged for others."""
        headers: Mapping[str, str] = {JSON_LENGTH: str(json_length)} if json_length else {}
        try:
            asked, wants = parse_infer("any", "", headers, body)
        except MofangError:
            return None
        if asked.inputs.keys() != self._inputs.keys() or asked.client_id:
            return None
        if asked.outputs not in ((), self._outputs):
            return None
        if len({len(array) if array.ndim else 0 for array in asked.inputs.values()}) != 1:
            return None
        slots = tuple(_slot(*self._inputs[name], array) for name, array in asked.inputs.items())
        rows = len(next(iter(asked.inputs.values())))
        if None in slots or not rows:
            return None
        known = KnownBody((body[:json_length],), slots, rows, wants, asked.priority)  # type: ignore[arg-type]
        if json_length:
            return known if len(body) - json_length == sum(slot.size_bytes for slot in known.slots) else None
        spans = _spans(body, len(slots))
        around = _around(body, spans)
        if any(b"\\" in part for part in around) or body.count(b'"data"') != len(slots) != 0 or not spans:
            return None
        known = msgspec.structs.replace(known, frame=tuple(around))
        arrays = list(asked.inputs.values())
        for slot, array, (start, end) in zip(known.slots, arrays, spans, strict=True):
            if b"[" in body[start:end] or _packed(slot, body[start - 1 : end + 1]) != array.tobytes():
                return None
        return known


def _slot(at: int, spec: TensorSpec, array: Array) -> Slot | None:
    if array.dtype != NUMPY[spec.datatype] or array.ndim != len(spec.shape) or array.shape[1:] != spec.shape[1:]:
        return None
    numbers = _BOOLEANS if spec.datatype == "BOOL" else _FLOATS if array.dtype.kind == "f" else _INTEGERS
    return Slot(at, array.nbytes, struct.Struct(f"={array.size}{_CODES[spec.datatype]}"), numbers)


def _fill(known: KnownBody, body: bytes, json_length: int, party: Party) -> bool:
    """Put the numbers of ``body`` into the buffers, if they are all in which it differs, and there is room."""
    frame, rows = known.frame, party.rows
    before, after = frame[0], frame[-1]
    if not body.startswith(before) or rows + known.rows > party.full:
        return False
    if json_length:
        return _fill_binary(known, body, json_length, party)
    if len(frame) == 1 or not body.endswith(after):
        return False
    try:
        if len(frame) == 2:  # as most are
            slot = known.slots[0]
            numbers = slot.numbers.decode(body[len(before) - 1 : len(body) - len(after) + 1])
            slot.pack.pack_into(party.buffers[0], rows * party.row_bytes[0], *numbers)
            return True
        return _fill_several(known, body, party)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, struct.error, OverflowError):
        return False  # not so many, or not numbers, or too large: codec finds the words for it


def _fill_several(known: KnownBody, body: bytes, party: Party) -> bool:
    at, last = len(known.frame[0]), len(body) - len(known.frame[-1])
    for slot, after in zip(known.slots, known.frame[1:], strict=True):
        end = body.find(b"]", at)
        if end > last or not body.startswith(after, end):
            return False
        numbers = slot.numbers.decode(body[at - 1 : end + 1])
        slot.pack.pack_into(party.buffers[slot.at], party.rows * party.row_bytes[slot.at], *numbers)
        at = end + len(after)
    return at == len(body)


def _fill_binary(known: KnownBody, body: bytes, json_length: int, party: Party) -> bool:
    if len(known.frame) > 1 or len(known.frame[0]) != json_length:
        return False
    raw = memoryview(body)
    start = json_length
    if len(body) - start != sum([slot.size_bytes for slot in known.slots]):
        return False
    for slot in known.slots:
        data = raw[start : start + slot.size_bytes]
        if slot.numbers is _BOOLEANS and (np.frombuffer(data, np.uint8) > 1).any():
            return False
        at = party.rows * party.row_bytes[slot.at]
        party.buffers[slot.at][at : at + slot.size_bytes] = data
        start += slot.size_bytes
    return True


def _packed(slot: Slot, text: bytes) -> bytes | None:
    try:
        return slot.pack.pack(*slot.numbers.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, struct.error, OverflowError):
        return None


def _spans(body: bytes, count: int) -> list[tuple[int, int]]:
    """Return where the numbers after each key "data" start and end, if that is how the body is written."""
    spans = []
    end = 0
    for _ in range(count):
        found = body.find(b'"data"', end)
        start = body.find(b"[", found) + 1
        end = body.find(b"]", start)
        if found < 0 or not start or end < 0:
            return []
        spans.append((start, end))
    return spans


def _around(body: bytes, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """Return what stands around the spans."""
    parts, at = [], 0
    for start, end in spans:
        parts.append(body[at:start])
        at = end
    return [*parts, body[at:]]
