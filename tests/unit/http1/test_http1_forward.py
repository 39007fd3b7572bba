"""The forwarder: through the front server, over a Unix socket, to a second server and back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rig import connected, request, run, talk

from mofang.surface.protocols.http import HttpResponse, HttpStream, RequestHead
from mofang.surface.server.exchange import Limits, Streamed
from mofang.surface.server.forward import Forwarder
from mofang.surface.server.listener import HttpServer


class Controller:
    """Tells what reached it."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []
        self.received = 0
        self.begun = asyncio.Event()
        self.gone = asyncio.Event()

    def route(self, head: RequestHead) -> Streamed:
        return Streamed(self.respond)

    async def respond(
        self, head: RequestHead, body: AsyncIterator[bytes], request_id: str
    ) -> HttpResponse | HttpStream:
        self.heads.append(head)
        if head.path == "/api/wait":
            return await self._wait()
        async for piece in body:
            self.received += len(piece)
        if head.path == "/api/large":
            return HttpStream(200, [("connection", "x-secret"), ("x-secret", "1")], self._large())
        headers = [("content-type", "application/json"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
        return HttpResponse(201, headers, json.dumps({"received": self.received}).encode())

    async def _large(self) -> AsyncGenerator[bytes, None]:
        for _ in range(100):
            yield b"x" * 100_000

    async def _wait(self) -> HttpResponse:
        self.begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            self.gone.set()


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[Controller, int]]:
    controller = Controller()
    back = HttpServer(controller.route, Limits(body_bytes=1000))
    inner = socket.socket(socket.AF_UNIX)
    inner.bind(str(folder / "c.sock"))
    await back.serve(inner)
    try:
        async with front(folder) as port:
            yield controller, port
    finally:
        await back.close()


@asynccontextmanager
async def front(folder: Path) -> AsyncIterator[int]:
    forwarder = Forwarder(folder / "c.sock")
    server = HttpServer(lambda head: Streamed(forwarder.respond))
    outer = socket.create_server(("127.0.0.1", 0))
    await server.serve(outer)
    try:
        yield outer.getsockname()[1]
    finally:
        await server.close()
        await forwarder.close()


def in_house(test: Callable[[Controller, int], Awaitable[None]], folder: Path) -> None:
    async def inside() -> None:
        async with house(folder) as (controller, port):
            await test(controller, port)

    run(inside)


def test_an_exchange_passes_both_ways(tmp_path: Path) -> None:
    async def test(controller: Controller, port: int) -> None:
        answer = await talk(
            port,
            request(
                "/api/v1/x%2Fy?a=%20b&c", b"hello", "Authorization: Bearer k", "X-Forwarded-For: 6.6.6.6",
                "TE: trailers", "Keep-Alive: 5", "X-Request-Id: mine",
            ),
        )  # fmt: skip
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 Created")
        assert head.count(b"set-cookie") == 2
        assert head.count(b"date: ") == 1
        assert json.loads(body) == {"received": 5}
        seen = controller.heads[0]
        assert (seen.method, seen.path, seen.query) == ("POST", "/api/v1/x%2Fy", "a=%20b&c")
        assert seen.headers["authorization"] == "Bearer k"
        assert seen.headers["x-forwarded-for"] == "127.0.0.1"
        assert seen.headers["x-request-id"].encode() in head
        assert seen.headers["x-request-id"].startswith("req_")
        assert seen.headers["host"] == "localhost"
        assert not {"te", "keep-alive"} & set(seen.headers)

    in_house(test, tmp_path)


def test_large_bodies_pass_in_pieces(tmp_path: Path) -> None:
    async def test(controller: Controller, port: int) -> None:
        piece = b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20))
        parts = [piece] * 24 + [b"0\r\n\r\n"]
        answer = await talk(port, request("/api/u", b"", "Transfer-Encoding: chunked"), *parts)
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"received": 24 << 20}
        head, _, body = (await talk(port, request("/api/large"))).partition(b"\r\n\r\n")
        assert body.count(b"x") == 10_000_000
        assert b"x-secret" not in head

    in_house(test, tmp_path)


def test_requests_without_a_body_have_none(tmp_path: Path) -> None:
    async def test(controller: Controller, port: int) -> None:
        assert (await talk(port, request("/api"))).startswith(b"HTTP/1.1 201")
        assert "transfer-encoding" not in controller.heads[0].headers
        assert (await talk(port, request("/api", method="HEAD"))).endswith(b"\r\n\r\n")

    in_house(test, tmp_path)


def test_a_client_that_goes_takes_its_exchange_along(tmp_path: Path) -> None:
    async def test(controller: Controller, port: int) -> None:
        async with connected(port) as (_, writer):
            writer.write(request("/api/wait"))
            await controller.begun.wait()
        await controller.gone.wait()

    in_house(test, tmp_path)


def test_a_controller_that_is_down_is_told_as_such(tmp_path: Path) -> None:
    async def test() -> None:
        async with front(tmp_path) as port:
            answer = await talk(port, request("/api/v1/models"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"application/problem+json" in head
            assert b"retry-after: 2" in head
            assert json.loads(body)["code"] == "server.not_running"

    run(test)
