"""A server on a real socket with a small application, and a client that speaks in bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import uvloop

from mofang.base.domain.errors import RouteNotFound
from mofang.surface.protocols.http import HttpRequest, HttpResponse, HttpStream, RequestHead
from mofang.surface.server.exchange import Limits, Streamed, Whole
from mofang.surface.server.listener import HttpServer

QUICK = Limits(
    head_seconds=0.3, body_seconds=0.4, idle_seconds=0.5, write_seconds=0.3, linger_seconds=0.3,
    half_close_seconds=0.2, sweep_seconds=0.05,
)  # fmt: skip


class SmallApp:
    """``/echo`` and ``/stream-echo`` give back the body, ``/slow`` never answers, ``/gate`` when told."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.running = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.seen: list[HttpRequest] = []
        self.streamed = 0
        self.closed = asyncio.Event()

    def route(self, head: RequestHead) -> Whole | Streamed:
        match head.path:
            case "/echo" | "/big" | "/bad-header" | "/broken" | "/empty":
                return Whole(self.echo)
            case "/slow":
                return Whole(self.slow)
            case "/gate":
                return Whole(self.wait)
            case "/stream-echo" | "/count" | "/held":
                return Streamed(self.stream)
            case "/gated-pieces" | "/gated-events" | "/pieces" | "/endless" | "/breaks" | "/sized" | "/short":
                return Streamed(self.pieces)
        raise RouteNotFound(f"no {head.path}")

    async def echo(self, request: HttpRequest, request_id: str) -> HttpResponse:
        self.seen.append(request)
        match request.path:
            case "/big":
                return HttpResponse(200, [], b"x" * (32 << 20))
            case "/bad-header":
                return HttpResponse(200, [("x", "a\r\nset-cookie: b")], b"")
            case "/broken":
                raise ZeroDivisionError("a secret detail")
            case "/empty":
                return HttpResponse(204, [], b"")
        return HttpResponse(200, [("x-request-id", request_id)], request.body)

    async def slow(self, request: HttpRequest, request_id: str) -> HttpResponse:
        self.running.set()
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def wait(self, request: HttpRequest, request_id: str) -> HttpResponse:
        self.seen.append(request)
        self.running.set()
        await self.gate.wait()
        return HttpResponse(200, [], b"opened")

    async def stream(self, head: RequestHead, body: AsyncIterator[bytes], request_id: str) -> HttpResponse | HttpStream:
        self.running.set()
        if head.path == "/held":
            await self.gate.wait()
        if head.path == "/stream-echo":
            return HttpStream(200, [], self._copy(body))
        async for piece in body:
            self.streamed += len(piece)
        return HttpResponse(200, [], str(self.streamed).encode())

    async def _copy(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for piece in body:
            yield piece

    async def pieces(self, head: RequestHead, body: AsyncIterator[bytes], request_id: str) -> HttpStream:
        headers = {"/sized": [("content-length", "9")], "/short": [("content-length", "10")]}.get(head.path, [])
        pause = b":\n\n" if head.path == "/gated-events" else b""
        return HttpStream(200, headers, self._pieces(head.path), pause=pause)

    async def _pieces(self, path: str) -> AsyncGenerator[bytes, None]:
        try:
            for piece in (b"one", b"", b"two", b"six"):
                yield piece
                if path.startswith("/gated"):
                    await self.gate.wait()
            while path == "/endless":
                self.streamed += 1 << 16
                yield b"x" * (1 << 16)
                await asyncio.sleep(0)
            if path == "/breaks":
                raise OSError("the source is gone")
        finally:
            self.closed.set()


@asynccontextmanager
async def running(limits: Limits = QUICK) -> AsyncIterator[tuple[SmallApp, HttpServer, int]]:
    """Give the application, the server and its port."""
    app = SmallApp()
    server = HttpServer(app.route, limits)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.serve(sock)
    try:
        yield app, server, sock.getsockname()[1]
    finally:
        await server.close()


@asynccontextmanager
async def connected(
    port: int, local: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Give a connection that comes from ``local``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20, local_addr=(local, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):  # the other end may have reset it; that is what some tests are about
            await writer.wait_closed()


async def talk(port: int, *parts: bytes, half_close: bool = False) -> bytes:
    """Send parts, each in a packet of its own, and return all that comes until the server closes."""
    async with connected(port) as (reader, writer):
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if half_close:
                writer.write_eof()
            return await reader.read()
        except ConnectionResetError:
            return b"RESET"


def request(
    path: str = "/echo", body: bytes | None = None, *headers: str, method: str = "", close: bool = True
) -> bytes:
    """Return the bytes of a request."""
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if close:
        lines.append("Connection: close")
    if body is not None and not any(
        line.lower().startswith(("content-length", "transfer-encoding")) for line in headers
    ):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test with a deadline of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that gateways use
        runner.run(bounded())
