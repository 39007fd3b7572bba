"""The frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6), and what may be wrong with them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, HAS_PRIORITY = 0x4, 0x8, 0x20
CONCURRENT_STREAMS, INITIAL_WINDOW, FRAME_BYTES, HEAD_LIST_BYTES = 3, 4, 5, 6  # identifiers of settings
LARGEST_WINDOW = LARGEST_NUMBER = 2**31 - 1
FIRST_WINDOW, FIRST_FRAME_BYTES = 65_535, 16_384  # until settings say otherwise
HEAD = struct.Struct(">IBI")
"""The nine bytes before each payload: length (24 bits) and kind in one number, flags, number of the stream."""
_SETTING = struct.Struct(">HI")


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113, section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    FLOW_CONTROL_ERROR = 0x3
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class ConnectionFault(Exception):
    """The peer did what nobody can go on after."""

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code = code


class StreamFault(Exception):
    """A request that is malformed; the connection stays."""


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, number) + payload


def settings(values: Mapping[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(*pair) for pair in values.items()]))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """Yield what a SETTINGS frame says. Raises ConnectionFault."""
    if len(payload) % _SETTING.size:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "settings come in six bytes each")
    for name, value in _SETTING.iter_unpack(payload):
        if name == INITIAL_WINDOW and value > LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the initial window is too large")
        if name == FRAME_BYTES and not FIRST_FRAME_BYTES <= value < 1 << 24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no frame may have that size")
        yield name, value


def window_update(number: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, number, increment.to_bytes(4, "big"))


def reset(number: int, code: Code) -> bytes:
    """Return a RST_STREAM."""
    return frame(RST_STREAM, 0, number, code.to_bytes(4, "big"))


def go_away(last: int, code: Code, words: str = "") -> bytes:
    """Return a GOAWAY: streams after ``last`` were not looked at."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + words.encode())


def unpadded(flags: int, payload: bytes) -> bytes:
    """Return ``payload`` without its padding. Raises ConnectionFault."""
    if not flags & PADDED:
        return payload
    padding = payload[0] if payload else 1
    if padding >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - padding]
