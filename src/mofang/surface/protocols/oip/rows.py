"""Bodies that differ from one read before in nothing but their numbers: those are read without the rest.

A client sends the same JSON again and again, with other numbers in it. What stands around the numbers is remembered
with what it means, once the whole has been read with care (``codec``); of the next body only the numbers are decoded,
straight into their place among the rows that are computed together. What does not fit exactly is read with care again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

from mofang.base.domain.errors import MofangError
from mofang.base.domain.tensors import Array, TensorSpec
from mofang.run.serve.party import Party
from mofang.surface.protocols.oip.codec import JSON_LENGTH, Wants, parse_infer

_MAX_KNOWN, _MAX_FRAME_BYTES = 1024, 4096
_FREE_MISSES = 64  # bodies that are new, before it is asked whether reading them twice pays
_NUMBERS = msgspec.json.Decoder(list[float])


class KnownBody(msgspec.Struct, frozen=True, gc=False):
    """What stands around the numbers of a body: ``before`` and ``after`` them (nothing, if they come as binary)."""

    before: bytes
    after: bytes
    rows: int
    wants: Wants
    pack: struct.Struct


class KnownBodies:
    """Reads the bodies of requests for one signature, whose only input is ``row``: FP32, of fixed size but its rows."""

    def __init__(self, row: TensorSpec, outputs: tuple[str, ...]) -> None:
        self._row = row
        self._outputs = outputs
        self._known: dict[bytes, KnownBody] = {}
        self._last: KnownBody | None = None
        self._misses = 0
        self.hits = 0

    def read(self, body: bytes, json_length: int, party: Party) -> KnownBody | None:
        """Put the numbers of ``body`` after the rows that ``party`` has; None if there is no room or it is not known.

        ``json_length`` is how much of it is JSON, 0 for all.
        """
        known = self._find(body, json_length)
        if known is None or party.rows + known.rows > party.full:
            return None
        at = party.rows * party.row_bytes
        if json_length:
            raw = memoryview(body)[json_length:]
            if len(raw) != known.rows * party.row_bytes:
                return None
            party.buffer[at : at + len(raw)] = raw
            return known
        try:
            numbers = _NUMBERS.decode(body[len(known.before) - 1 : len(body) - len(known.after) + 1])
            known.pack.pack_into(party.buffer, at, *numbers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, struct.error, OverflowError):
            return None  # not so many, or not numbers, or too large: codec finds the words for it
        return known

    def _find(self, body: bytes, json_length: int) -> KnownBody | None:
        last = self._last
        if json_length:
            key = body[:json_length]
            if last is not None and last.before == key and not last.after:
                return last
        else:
            if last is not None and last.after and body.startswith(last.before) and body.endswith(last.after):
                return last
            start, end = _numbers(body)
            key = body[:start] + body[end:]
        known = self._known.get(key)
        if known is None and len(key) <= _MAX_FRAME_BYTES and self._misses <= _FREE_MISSES + self.hits // 8:
            self._misses += 1
            known = self._learn(body, json_length)
            if known is not None:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[key] = known
        self._last = known or last
        return known

    def _learn(self, body: bytes, json_length: int) -> KnownBody | None:
        """Read ``body`` with care; return what it means if its numbers may be exchanged for others."""
        headers: Mapping[str, str] = {JSON_LENGTH: str(json_length)} if json_length else {}
        try:
            asked, wants = parse_infer("any", "", headers, body)
        except MofangError:
            return None
        array = asked.inputs.get(self._row.name)
        if array is None or len(asked.inputs) > 1 or not self._fits(array) or asked.client_id:
            return None
        if asked.outputs not in ((), self._outputs):
            return None
        pack = struct.Struct(f"={array.size}f")
        if json_length:
            is_raw = len(body) - json_length == array.nbytes
            return KnownBody(body[:json_length], b"", len(array), wants, pack) if is_raw else None
        start, end = _numbers(body)
        before, after = body[:start], body[end:]
        if b"\\" in before + after or body.count(b'"data"') != 1 or b"[" in body[start:end]:
            return None
        try:
            if pack.pack(*_NUMBERS.decode(body[start - 1 : end + 1])) != array.tobytes():
                return None
        except (msgspec.DecodeError, UnicodeDecodeError, struct.error, OverflowError):
            return None
        return KnownBody(before, after, len(array), wants, pack)

    def _fits(self, array: Array) -> bool:
        return array.dtype.char == "f" and array.ndim > 0 and len(array) > 0 and array.shape[1:] == self._row.shape[1:]


def _numbers(body: bytes) -> tuple[int, int]:
    """Return where the numbers after the key "data" start and end, if that is how the body is written."""
    start = body.find(b"[", body.find(b'"data"')) + 1
    return start, body.find(b"]", start)
