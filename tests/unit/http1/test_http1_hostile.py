"""What a careless or hostile client may try: each is refused or closed in time, and the others notice nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import QUICK, connected, request, run, running, talk

from mofang.surface.server.exchange import Limits

POST = "POST /echo HTTP/1.1\r\nHost: localhost\r\n"
BAD: dict[str, tuple[str, int]] = {
    "length and chunked": (POST + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked and length": (POST + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (POST + "Content-Length: 5, 5\r\n\r\nhello", 400),
    "signed length": (POST + "Content-Length: +5\r\n\r\nhello", 400),
    "negative length": (POST + "Content-Length: -5\r\n\r\nhello", 400),
    "hexadecimal length": (POST + "Content-Length: 0x5\r\n\r\nhello", 400),
    "length over 2^64": (POST + "Content-Length: 99999999999999999999\r\n\r\n", 400),
    "empty length": (POST + "Content-Length:\r\n\r\n", 400),
    "folded field": (POST + "X: a\r\n b\r\n\r\n", 400),
    "space before colon": (POST + "Content-Length : 5\r\n\r\nhello", 400),
    "no field name": (POST + ": x\r\n\r\n", 400),
    "NUL in a value": (POST + "X: a\0b\r\n\r\n", 400),
    "CR in a value": (POST + "X: a\rb\r\n\r\n", 400),
    "bare LF": ("POST /echo HTTP/1.1\nHost: localhost\n\n", 400),
    "bare LF in the end": (POST + "Content-Length: 0\n\n", 400),
    "chunked twice": (POST + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked not last": (POST + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    "chunked not alone": (POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "nearly chunked": (POST + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": ("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunk size with prefix": (POST + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
    "chunk size with space": (POST + "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400),
    "chunk size over 2^64": (POST + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 400),
    "chunk longer than told": (POST + "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", 400),
    "chunk ended by LF": (POST + "Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
    "no host": ("GET /echo HTTP/1.1\r\n\r\n", 400),
    "two hosts": ("GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "host with path": ("GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with user": ("GET /echo HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "host with query": ("GET /echo HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
    "empty host": ("GET /echo HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "two keys": (POST + "Authorization: a\r\nauthorization: b\r\nContent-Length: 0\r\n\r\n", 400),
    "HTTP/0.9": ("GET /echo\r\n\r\n", 400),
    "HTTP/2": ("GET /echo HTTP/2.0\r\nHost: a\r\n\r\n", 400),
    "the preface of HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "CONNECT": ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "whole URL": ("GET http://localhost/echo HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "dot segments": ("GET /echo/../slow HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "fragment": ("GET /echo#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "unknown method": ("FROB /echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "upgrade with a body": (POST + "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx", 400),
    "unknown expectation": (POST + "Expect: gold\r\nContent-Length: 1\r\n\r\nx", 400),
    "unknown encoding": (POST + "Content-Encoding: br\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", 400),
    "not gzip": (POST + "Content-Encoding: gzip\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx", 400),
    "half of gzip": (
        POST + "Content-Encoding: gzip\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\x1f\x8b\x08",
        400,
    ),
    "unknown path": ("GET /none HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\r\n" * 4, 400),
    "a body over the limit": (POST + f"Content-Length: {65 << 20}\r\n\r\n", 413),
    "101 fields": (POST + "".join(f"X-{n}: 1\r\n" for n in range(101)) + "\r\n", 431),
    "a long target": (f"GET /{'a' * 40_000} HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    "a long field": (POST + f"X: {'a' * 40_000}\r\n\r\n", 431),
    "a field without end": (POST + f"X: {'a' * 1_048_576}", 431),
    "a name without end": (POST + "a" * 1_048_576, 431),
    "small fields without end": (POST + "X: 1\r\n" * 100_000, 431),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_and_closed(case: str) -> None:
    text, status = BAD[case]

    async def test() -> None:
        async with running() as (app, _, port):
            answer = await talk(port, text.encode("latin-1") + b"GET /echo HTTP/1.1\r\nHost: smuggled\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"connection: close" in head
            document = json.loads(body)
            assert document.keys() == {"error", "code", "hint"}
            assert 0 < len(document["error"]) < 300
            assert not app.seen

    run(test)


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_in_small_pieces_are_refused_too(case: str) -> None:
    text, status = BAD[case]
    pieces = [text.encode("latin-1")[:3000][at : at + 7] for at in range(0, min(len(text), 3000), 7)]

    async def test() -> None:
        async with running() as (app, _, port):
            answer = await talk(port, *pieces)
            assert answer == b"" or answer[9:12] in (b"%d" % status, b"408")
            assert not app.seen

    run(test)


def test_too_many_chunks_are_refused() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            answer = await talk(port, request("/echo", b"", "Transfer-Encoding: chunked"), b"1\r\na\r\n" * 70_000)
            assert answer.startswith(b"HTTP/1.1 413")

    run(test)


def test_as_many_chunks_as_the_limit_are_taken_and_not_one_more() -> None:
    async def test() -> None:
        head = request("/echo", b"", "Transfer-Encoding: chunked", "Connection: close")
        async with running(replace(QUICK, chunks=100)) as (_, _, port):
            for count, status in ((100, b"200"), (101, b"413")):
                answer = await talk(port, head, b"1\r\na\r\n" * count + b"0\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 " + status), (count, answer[:100])

    run(test)


def test_a_body_that_grows_over_the_limit_is_refused() -> None:
    async def test() -> None:
        async with running(replace(QUICK, body_bytes=1000)) as (_, _, port):
            chunk = b"%x\r\n%b\r\n" % (600, b"x" * 600)
            answer = await talk(port, request("/echo", b"", "Transfer-Encoding: chunked"), chunk, chunk)
            assert answer.startswith(b"HTTP/1.1 413")

    run(test)


def test_a_bomb_does_not_go_off() -> None:
    bomb = gzip.compress(bytes(1 << 30), 9)  # 1 GiB in 1 MiB; takes its time on a busy machine

    async def test() -> None:
        async with running(Limits()) as (_, _, port):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            for encoding in ("gzip", "deflate"):
                content = bomb if encoding == "gzip" else bomb[10:-8]
                answer = await talk(port, request("/echo", content[: 100 << 10], f"Content-Encoding: {encoding}"))
                assert answer.startswith(b"HTTP/1.1 413")
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
            answer = await talk(port, request("/echo", gzip.compress(b"") * 17, "Content-Encoding: gzip"))
            assert answer.startswith(b"HTTP/1.1 400")

    run(test)


def test_slow_senders_are_closed_in_time_while_others_are_served() -> None:
    async def drip(port: int, first: bytes) -> tuple[float, bytes]:
        started = time.monotonic()
        async with connected(port) as (reader, writer):
            writer.write(first)
            answer = asyncio.ensure_future(reader.read())
            while not answer.done():
                writer.write(b"a")
                await asyncio.wait([answer], timeout=0.02)
            return time.monotonic() - started, answer.result() if answer.exception() is None else b""

    async def test() -> None:
        async with running() as (_, _, port):
            firsts = [b"GET /echo HTTP/1.1\r\nX: ", request("/echo", b"", "Content-Length: 100000")]
            drips = [asyncio.ensure_future(drip(port, first)) for first in firsts * 20]
            served = 0
            while not all(one.done() for one in drips):
                assert (await talk(port, request("/echo", b"ok"))).endswith(b"ok")
                served += 1
            for seconds, answer in [one.result() for one in drips]:
                assert answer[9:12] in (b"408", b"")
                assert seconds < 10  # whom nobody closes drips for ever
            assert served > 10

    run(test)


def test_a_streamed_body_that_stops_is_refused() -> None:
    async def test() -> None:
        async with running() as (_, _, port), connected(port) as (reader, writer):
            writer.write(request("/count", b"", "Content-Length: 100000") + b"x")
            assert (await reader.read()).startswith(b"HTTP/1.1 408")

    run(test)


def test_a_streamed_body_that_breaks_is_refused() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            answer = await talk(port, request("/count", b"", "Transfer-Encoding: chunked"), b"1\r\na\r\n", b"zz\r\n")
            assert answer.startswith(b"HTTP/1.1 400")

    run(test)


def test_silent_and_idle_connections_are_closed() -> None:
    async def test() -> None:
        async with running() as (_, server, port), connected(port) as (silent, _), connected(port) as (idle, writer):
            writer.write(request("/echo", b"x", close=False))
            assert (await idle.read()).endswith(b"x")
            assert await silent.read() == b""
            assert server.connections == 0

    run(test)


def test_a_peer_that_does_not_read_is_dropped() -> None:
    async def test() -> None:
        limits = replace(QUICK, body_rate=1 << 30)
        async with running(limits) as (app, server, port), connected(port) as (_, writer):
            writer.transport.pause_reading()
            writer.write(request("/endless", close=False) * 3)
            await app.closed.wait()
            assert (server.answered, server.connections) == (1, 0)

    run(test)


def test_connections_are_bounded() -> None:
    async def test() -> None:
        limits = replace(QUICK, connections=2, idle_seconds=5, head_seconds=5)
        async with running(limits) as (_, _, port), connected(port) as (one, writer), connected(port):
            writer.write(request("/echo", b"x", close=False))
            await one.readuntil(b"\r\n\r\nx")
            answer = await talk(port)
            assert answer.startswith(b"HTTP/1.1 503")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "server.connections"
            writer.write(request("/echo", b"y"))
            assert (await one.read()).endswith(b"y")

    run(test)


def test_connections_from_one_address_are_bounded() -> None:
    async def test() -> None:
        limits = replace(QUICK, address_connections=2, idle_seconds=5, head_seconds=5)
        async with running(limits) as (_, server, port):
            async with connected(port), connected(port):
                refused = await talk(port)
                assert refused.startswith(b"HTTP/1.1 503")
                assert b"retry-after: 1" in refused
                assert b"from 127.0.0.1" in refused
                async with connected(port, local="127.0.0.2") as (reader, writer):  # another has room
                    writer.write(request("/echo", b"x"))
                    assert (await reader.read()).endswith(b"x")
            async with asyncio.timeout(5):  # until the server has noticed that they are gone
                while not (await talk(port, request("/echo", b"again"))).endswith(b"again"):
                    assert server.connections

    run(test)


def test_an_old_connection_ends_with_its_next_answer() -> None:
    async def test() -> None:
        limits = replace(QUICK, age_seconds=0.2, idle_seconds=5)
        async with running(limits) as (_, _, port), connected(port) as (reader, writer), asyncio.timeout(5):
            answered = 0
            while b"connection: close" not in (head := await _head(reader, writer)):
                answered += 1
                assert head.startswith(b"HTTP/1.1 200")
            assert answered > 0
            assert await reader.read() == b"x"

    run(test)


async def _head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Ask for ``x`` and return the head of the answer; read the body too, if more may follow."""
    writer.write(request("/echo", b"x", close=False))
    head = await reader.readuntil(b"\r\n\r\n")
    if b"connection: close" not in head:
        assert await reader.readexactly(1) == b"x"
    return head


def test_requests_ahead_of_their_answers_are_bounded() -> None:
    async def test() -> None:
        async with running(replace(QUICK, pipelined=8)) as (_, _, port):
            answer = await talk(port, request("/echo", close=False) * 2000)
            assert answer.count(b"HTTP/1.1 200") >= 8
            assert answer.count(b"HTTP/1.1 413") == 1

    run(test)


TOKENS = [
    *(
        b"GET ",
        b"POST ",
        b"/echo",
        b"/slow",
        b"/stream-echo",
        b"/count",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b":",
        b"5",
        b" ",
        b"\0",
    ),
    *(b"\r\n", b"\n", b"\r\n\r\n", b"Host: a\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n"),
    *(b"0\r\n\r\n", b"5\r\nhello\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: x\r\n"),
    *(b"Content-Encoding: gzip\r\n", request("/echo", b"hello", close=False), request("/pieces", close=False)),
    request("/stream-echo", b"x", close=False),
]
PIECE = st.one_of(st.sampled_from(TOKENS), st.binary(max_size=12))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.lists(PIECE, max_size=8).map(b"".join), max_size=6), min_size=1, max_size=8))
def test_no_bytes_break_the_server(conversations: list[list[bytes]]) -> None:
    async def test() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        limits = replace(QUICK, head_seconds=0.02, body_seconds=0.02, idle_seconds=0.02, half_close_seconds=0.02,
                         linger_seconds=0.02, sweep_seconds=0.01)  # fmt: skip
        async with running(limits) as (_, server, port):
            answers = await asyncio.gather(*(talk(port, *parts, half_close=True) for parts in conversations))
            for answer in answers:
                assert answer in (b"", b"RESET") or answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 4", b"HTTP/1.1 100"))
                assert b"HTTP/1.1 5" not in answer
            assert (await talk(port, request("/echo", b"alive"))).endswith(b"alive")
            assert server.busy == 0
        assert not faults

    run(test)
