"""The fast lane of a connection: answers without a task, and heads that are known by their bytes."""

from __future__ import annotations

import asyncio
import gzip
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import QUICK, connected, request, run, talk

from mofang.base.domain.errors import Unauthenticated
from mofang.surface.protocols.http import HttpRequest, HttpResponse, RequestHead, error_response
from mofang.surface.server.exchange import Direct, Limits
from mofang.surface.server.listener import HttpServer


class Later:
    """An answer that comes when it is let go."""

    def __init__(self, reply: Callable[[HttpResponse], None]) -> None:
        self.reply = reply
        self.cancelled = asyncio.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class App:
    """``/now`` answers in the call, ``/soon`` in the next turn, ``/later`` when told; ``/big`` with 32 MiB."""

    def __init__(self) -> None:
        self.seen: list[HttpRequest] = []
        self.heads = 0
        self.open = True
        self.waiting: asyncio.Queue[Later] = asyncio.Queue()

    def route(self, head: RequestHead) -> Direct:
        self.heads += 1
        return Direct(self.start)

    def start(self, asked: HttpRequest, request_id: str, reply: Callable[[HttpResponse], None]) -> Later | None:
        self.seen.append(asked)
        answer = HttpResponse(200, [("x-request-id", request_id)], asked.body)
        later = Later(reply)
        match asked.path:
            case "/later":
                self.waiting.put_nowait(later)
                return later
            case "/soon":
                asyncio.get_running_loop().call_soon(reply, answer)
                return later
            case "/big":
                answer = HttpResponse(200, [], b"x" * (32 << 20))
            case "/bad-header":
                answer = HttpResponse(200, [("x", "a\r\nset-cookie: b")], b"")
        reply(answer if self.open else error_response(Unauthenticated("no longer")))
        return None


@asynccontextmanager
async def serving(limits: Limits = QUICK) -> AsyncIterator[tuple[App, HttpServer, int]]:
    app = App()
    server = HttpServer(app.route, limits)
    sock = socket.create_server(("127.0.0.1", 0))
    await server.serve(sock)
    try:
        yield app, server, sock.getsockname()[1]
    finally:
        await server.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    return int(head[9:12]), await reader.readexactly(length)


@pytest.mark.parametrize("path", ["/now", "/soon"])
def test_a_head_that_comes_again_is_not_parsed_again(path: str) -> None:
    async def test() -> None:
        async with serving() as (app, _, port), connected(port) as (reader, writer):
            for body in (b"one", b"two", b"six", b"seven"):
                writer.write(request(path, body, close=False))
                assert await read_answer(reader) == (200, body)
            assert app.heads == 2  # one for each length
            assert [asked.body for asked in app.seen] == [b"one", b"two", b"six", b"seven"]
            assert {asked.path for asked in app.seen} == {path}

    run(test)


ASK_MANY = """
import socket, sys
port, body = int(sys.argv[1]), b"x" * 500_000
with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
    for _ in range(800):
        connection.sendall(b"POST /soon HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
        answer = b""
        while not answer.endswith(body):
            answer += connection.recv(65536)
"""


def test_large_answers_follow_each_other_on_one_connection() -> None:
    """A client may read on just when the server finds out that it does not; one in a process of its own does."""

    async def test() -> None:
        async with serving() as (_, _, port):
            client = await asyncio.create_subprocess_exec(sys.executable, "-c", ASK_MANY, str(port))
            assert await client.wait() == 0

    run(test)


def test_a_known_head_is_asked_for_its_right_each_time() -> None:
    async def test() -> None:
        async with serving() as (app, _, port), connected(port) as (reader, writer):
            for status in (200, 200, 401):
                app.open = status == 200
                writer.write(request("/now", b"body", "Authorization: Bearer key", close=False))
                assert (await read_answer(reader))[0] == status
            assert app.heads == 1

    run(test)


FOUR = request("/now", b"four", close=False)


@pytest.mark.parametrize(
    "parts",
    [(FOUR[:-1], FOUR[-1:]), (FOUR + b"\r\n",), (FOUR * 2,), (b"\r\n" + FOUR,), (FOUR[:10], FOUR[10:]), (FOUR,)],
    ids=["cut", "tail", "two", "before", "head", "whole"],
)
def test_what_only_resembles_a_known_request_is_parsed(parts: tuple[bytes, ...]) -> None:
    async def test() -> None:
        async with serving() as (app, _, port), connected(port) as (reader, writer):
            writer.write(FOUR)
            assert await read_answer(reader) == (200, b"four")
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.01)  # a packet of its own
            writer.write(request("/now", b"last"))
            said = await reader.read()
            assert said.endswith(b"last")
            count = b"".join(parts).count(b"POST")
            assert [asked.body for asked in app.seen] == [b"four"] * (1 + count) + [b"last"]

    run(test)


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=40) | st.sampled_from([b"\r\n\r\n", b"x\r\n\r\nPOST /now"]), max_size=12),
    cuts=st.lists(st.integers(0, 4000), max_size=8),
)
def test_every_way_to_send_requests_gives_the_same_answers(bodies: list[bytes], cuts: list[int]) -> None:
    requests = [request("/now", body, close=False) for body in bodies]
    stream = b"".join(requests)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    parts = [stream[a:b] for a, b in pairwise(places)]

    async def test() -> None:
        async with serving() as (app, _, port):
            await talk(port, *requests, half_close=True)
            await talk(port, *parts, half_close=True)
            assert [asked.body for asked in app.seen] == bodies * 2

    run(test)


def test_a_thousand_requests_in_one_packet_are_answered_in_order() -> None:
    async def test() -> None:
        async with serving() as (app, _, port):
            bodies = [b"%d" % number for number in range(1000)]
            said = await talk(port, b"".join(request("/now", body, close=False) for body in bodies), half_close=True)
            assert said.count(b"HTTP/1.1 200") == 1000
            assert [asked.body for asked in app.seen] == bodies

    run(test)


def test_a_peer_that_goes_away_drops_what_runs_for_it() -> None:
    async def test() -> None:
        async with serving() as (app, server, port):
            async with connected(port) as (_, writer):
                writer.write(request("/later", b""))
                later = await app.waiting.get()
                writer.transport.abort()
            await later.cancelled.wait()
            later.reply(HttpResponse(200, [], b"too late"))
            assert server.answered == 0

    run(test)


def test_a_peer_that_reads_slowly_gets_all_of_it() -> None:
    async def test() -> None:
        async with serving(Limits()) as (_, _, port), connected(port) as (reader, writer):
            writer.write(request("/big", b"", close=False) + request("/now", b"next", close=False))
            await asyncio.sleep(0.05)
            assert len((await read_answer(reader))[1]) == 32 << 20
            assert await read_answer(reader) == (200, b"next")

    run(test)


def test_an_answer_that_cannot_be_written_is_a_500_and_ends_the_connection() -> None:
    async def test() -> None:
        async with serving() as (_, _, port):
            said = await talk(port, request("/bad-header", b"", close=False))
            assert said.startswith(b"HTTP/1.1 500")
            assert b"set-cookie" not in said

    run(test)


def test_a_compressed_body_is_decompressed_first() -> None:
    async def test() -> None:
        async with serving() as (app, _, port):
            said = await talk(port, request("/now", gzip.compress(b"plain"), "Content-Encoding: gzip"))
            assert said.endswith(b"plain")
            assert app.seen[0].body == b"plain"

    run(test)
