"""Connections of the product on a wire that is none: what is read goes in as bytes, what is answered is looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import hpack

from fake_lane import KEY, FakeLane
from mofang.base.domain.errors import RouteNotFound
from mofang.surface.protocols.grpc.http2 import frames
from mofang.surface.protocols.grpc.http2.connection import Connection as Http2Connection
from mofang.surface.protocols.grpc.http2.house import House as Http2House
from mofang.surface.protocols.grpc.http2.house import Limits as Http2Limits
from mofang.surface.protocols.grpc.inference import Inference
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.http import HttpRequest, HttpResponse, RequestHead
from mofang.surface.server.exchange import Direct, House, Limits, Route, Streamed, Turn, Whole
from mofang.surface.server.http1 import Connection
from mofang.surface.wire import inference_pb2 as pb

TURNS = 12  # of the event loop, after which what can be answered is


class Wire(asyncio.Transport):
    """Takes what is written, and tells the connection that it is closed when it closes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written = bytearray()
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        return

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return


class _Defects(logging.Handler):
    """What the product said about itself that it says of defects alone."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


LOOP = asyncio.new_event_loop()
_DEFECTS = _Defects()
logging.getLogger().addHandler(_DEFECTS)
LOOP.set_exception_handler(lambda _, context: _DEFECTS.said.append(f"{context}"))


def _talk(connect: Callable[[], asyncio.Protocol], data: bytes) -> bytes:
    """Let ``data`` come in two pieces; return what was answered."""

    async def talk() -> bytes:
        connection, wire = connect(), Wire()
        connection.connection_made(wire)
        half = len(data) // 2
        for piece in (data[:half], data[half:]):
            if piece and not wire.is_closing():
                connection.data_received(piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        connection.connection_lost(None)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return bytes(wire.written)

    written = LOOP.run_until_complete(talk())
    said, _DEFECTS.said = _DEFECTS.said, []
    assert not said, said[0]
    return written


# --- HTTP/1.1 ---------------------------------------------------------------------------------------------------------


async def _echo(request: HttpRequest, request_id: str) -> HttpResponse:
    return HttpResponse(200, [("x-request-id", request_id)], request.body)


async def _count(head: RequestHead, body: AsyncIterator[bytes], request_id: str) -> HttpResponse:
    size = 0
    async for piece in body:
        size += len(piece)
    return HttpResponse(200, [], str(size).encode())


def _at_once(request: HttpRequest, request_id: str, answer: Callable[[HttpResponse], None]) -> None:
    answer(HttpResponse(200, [], request.body))


def _route(head: RequestHead) -> Route:
    match head.path[:2]:
        case "/d":
            return Direct(_at_once)
        case "/w":
            return Whole(_echo)
        case "/s":
            return Streamed(_count)
    raise RouteNotFound(f"no {head.path[:40]}")


def http1(data: bytes) -> None:
    """Read requests; each begins an answer with a status line, and none is 500."""
    house = House(_route, Limits(body_bytes=1 << 16, inflate_bytes=1 << 12), LOOP, Turn(LOOP))
    written = _talk(lambda: Connection(house), data)
    assert not written or written.startswith(b"HTTP/1.1 "), written[:100]
    assert b"HTTP/1.1 500" not in written, written[:200]


REQUESTS = [
    b"POST /d HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok" * 2,
    b"POST /w HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"POST /s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET /w?a=b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /w HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\0",
]

# --- HTTP/2 -----------------------------------------------------------------------------------------------------------


def http2(data: bytes) -> None:
    """Read frames after a preface and settings."""
    lane, streams = FakeLane(), Streams()
    del lane.models["broken"], lane.models["slow"]
    house = Http2House(Inference(lane, streams, None).methods(), Http2Limits(message_bytes=1 << 16), LOOP)
    _talk(lambda: Http2Connection(house), frames.PREFACE + frames.settings({}) + data)


def block() -> bytes:
    """Return the head of a call."""
    fields = {":method": "POST", ":scheme": "http", ":path": "/inference.GRPCInferenceService/ModelInfer"}
    fields |= {":authority": "h", "te": "trailers", "content-type": "application/grpc", "authorization": KEY}
    return bytes(hpack.Encoder().encode([*fields.items()]))


def _call(number: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}
    message = bytes(pb.ModelInferRequest(model_name="digits", inputs=[tensor]).SerializeToString())
    data = b"\0" + len(message).to_bytes(4, "big") + message
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, number, block())
    return head + frames.frame(frames.DATA, frames.END_STREAM, number, data)


CALLS = [_call(1) + _call(3), frames.frame(frames.RST_STREAM, 0, 1, bytes(4)), frames.window_update(0, 100)]
