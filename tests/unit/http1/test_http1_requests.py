"""What a well-behaved client may do on a connection, on real sockets."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from rig import QUICK, connected, request, run, running, talk

from mofang.surface.server.exchange import Limits


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def test_a_request_is_answered() -> None:
    async def test() -> None:
        async with running() as (app, server, port):
            answer = await talk(port, request("/echo?a=%20b", b"hello", "X-One: 1", "x-one: 2"))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-length: 5" in head
            assert b"connection: close" in head
            assert b"date: " in head
            assert b"x-request-id: req_" in head
            assert body == b"hello"
            seen = app.seen[0]
            assert (seen.method, seen.path, seen.query, seen.headers["x-one"]) == ("POST", "/echo", "a=%20b", "1, 2")
            assert server.answered == 1

    run(test)


def test_a_connection_is_kept_and_every_split_is_the_same() -> None:
    async def test() -> None:
        async with running() as (_, server, port), connected(port) as (reader, writer):
            text = request("/echo", b"hello", close=False)
            for at in range(1, len(text)):
                writer.write(text[:at])
                await asyncio.sleep(0)
                writer.write(text[at:])
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"connection: close" not in head
                assert await reader.readexactly(5) == b"hello"
            assert server.connections == 1

    run(test)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            parts = [request("/echo", b"%d;" % number, close=False) for number in range(500)]
            answer = await talk(port, b"".join(parts) + request("/echo", b"end"))
            bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]]
            assert bodies == [b"%d;" % number for number in range(500)] + [b"end"]

    run(test)


def test_a_pipelined_refusal_waits_for_its_turn() -> None:
    async def test() -> None:
        async with running() as (app, _, port), connected(port) as (reader, writer):
            writer.write(request("/gate", close=False) + request("/echo", b"2", close=False) + b"nonsense\r\n\r\n")
            await app.running.wait()
            app.gate.set()
            answer = await reader.read()
            assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]

    run(test)


def test_bodies_in_chunks() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            chunks = b"5;name=value\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: dropped\r\n\r\n"
            for path in ("/echo", "/stream-echo"):
                answer = await talk(port, request(path, b"", "Transfer-Encoding: chunked"), chunks[:8], chunks[8:])
                assert body_of(answer).replace(b"\r\n", b"") in (b"hello!", b"5hello1!0", b"6hello!0")

    run(test)


def test_a_streamed_body_in_many_small_chunks_is_read_in_few_pieces() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            chunks = b"1\r\na\r\n" * 2000 + b"0\r\n\r\n"
            answer = await talk(port, request("/stream-echo", b"", "Transfer-Encoding: chunked") + chunks)
            pieces = body_of(answer).split(b"\r\n")[1::2]
            assert b"".join(pieces) == b"a" * 2000
            assert len(pieces) < 20

    run(test)


def test_expect_100_continue() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            for path in ("/echo", "/count"):
                async with connected(port) as (reader, writer):
                    writer.write(request(path, b"", "Content-Length: 2", "Expect: 100-continue"))
                    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                    writer.write(b"ok")
                    assert (await reader.read()).startswith(b"HTTP/1.1 200")
            refused = await talk(port, request("/echo", b"", "Content-Length: 99999999999", "Expect: 100-continue"))
            assert refused.startswith(b"HTTP/1.1 413")
            behind = await talk(
                port,
                request("/echo", b"one", close=False)
                + request("/echo", b"", "Content-Length: 2", "Expect: 100-continue")
                + b"ok",
            )
            assert behind.count(b"HTTP/1.1 200") == 2
            assert b"100 Continue" not in behind  # its body was already there

    run(test)


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "raw", "members", "identity"])
def test_compressed_bodies(name: str) -> None:
    text = b"some text " * 50_000
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(text),
        "x-gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "raw": raw.compress(text) + raw.flush(),
        "members": gzip.compress(text[:7]) + gzip.compress(text[7:]),
        "identity": text,
    }[name]
    encoding = {"raw": "deflate", "members": "gzip"}.get(name, name)

    async def test() -> None:
        async with running() as (_, _, port):
            answer = await talk(port, request("/echo", packed, f"Content-Encoding: {encoding}"))
            assert body_of(answer) == text

    run(test)


def test_large_compressed_bodies_are_decompressed_too() -> None:
    async def test() -> None:
        text = bytes(range(256)) * 8192
        packed = zlib.compressobj(level=0, wbits=31)
        async with running() as (_, _, port):
            content = packed.compress(text) + packed.flush()
            assert body_of(await talk(port, request("/echo", content, "Content-Encoding: gzip"))) == text

    run(test)


def test_half_closed_peers_get_their_answer() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            assert body_of(await talk(port, request("/echo", b"hello", close=False), half_close=True)) == b"hello"
            several = request("/echo", b"1", close=False) * 3 + b"GET /ec"
            assert (await talk(port, several, half_close=True)).count(b"200 OK") == 3
            assert await talk(port, request("/echo", b"", "Content-Length: 5"), b"hel", half_close=True) == b""
            assert await talk(port, half_close=True) == b""

    run(test)


def test_a_peer_that_half_closes_while_it_is_answered_is_let_go_afterwards() -> None:
    async def test() -> None:
        async with running() as (app, server, port), connected(port) as (reader, writer):
            writer.write(request("/gated-pieces", close=False))
            assert b"one" in await reader.readuntil(b"one")
            writer.write_eof()
            for _ in range(20):
                await asyncio.sleep(0)  # the end arrives while the answer is being sent
            app.gate.set()
            assert b"six" in await reader.read()
            assert server.connections == 0

    run(test)


def test_a_peer_that_is_gone_between_two_events_is_noticed_at_once() -> None:
    async def test() -> None:
        async with running() as (app, server, port):
            async with connected(port) as (reader, writer):
                writer.write(request("/gated-events"))
                await reader.readuntil(b"one\r\n")  # all that was sent: closing is an end, not a reset
            began = asyncio.get_running_loop().time()
            await asyncio.wait_for(app.closed.wait(), 2)
            assert asyncio.get_running_loop().time() - began < 0.1
            assert server.busy == 0

    run(test)


def test_a_peer_that_sends_no_more_is_asked_between_two_events_and_reads_on() -> None:
    async def test() -> None:
        async with running() as (app, _, port), connected(port) as (reader, writer):
            writer.write(request("/gated-events"))
            await reader.readuntil(b"one\r\n")
            writer.write_eof()
            assert await reader.readexactly(8) == b"3\r\n:\n\n\r\n"
            app.gate.set()
            assert await reader.read() == b"3\r\ntwo\r\n3\r\nsix\r\n0\r\n\r\n"

    run(test)


def test_what_runs_for_a_peer_that_is_gone_is_cancelled() -> None:
    async def test() -> None:
        async with running() as (app, server, port):
            async with connected(port) as (_, writer):
                writer.write(request("/slow"))
                await app.running.wait()
            await app.cancelled.wait()
            app.cancelled.clear()
            app.running.clear()
            async with connected(port) as (_, writer):
                writer.write(request("/slow"))
                await app.running.wait()
                writer.transport.abort()  # a reset, if bytes were unread; else an end
            await app.cancelled.wait()
            assert server.busy == 0

    run(test)


def test_a_long_answer_to_a_gone_peer_is_stopped() -> None:
    async def test() -> None:
        async with running() as (app, _, port):
            async with connected(port) as (reader, writer):
                writer.write(request("/endless"))
                await reader.readexactly(100_000)
            await app.closed.wait()

    run(test)


def test_streamed_answers() -> None:
    async def test() -> None:
        async with running() as (app, _, port):
            assert body_of(await talk(port, request("/pieces"))) == b"3\r\none\r\n3\r\ntwo\r\n3\r\nsix\r\n0\r\n\r\n"
            assert body_of(await talk(port, request("/sized"))) == b"onetwosix"
            assert body_of(await talk(port, request("/pieces", method="HEAD"))) == b""
            assert b"0\r\n\r\n" not in await talk(port, request("/breaks"))
            await talk(port, request("/short", close=False))
            assert app.closed.is_set()

    run(test)


def test_http_1_0_is_answered_and_closed() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            answer = await talk(port, b"POST /echo HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
            assert body_of(answer) == b"hi"

    run(test)


def test_an_upgrade_is_passed_over() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            answer = await talk(port, request("/echo", None, "Connection: Upgrade", "Upgrade: h2c", close=False))
            assert answer.startswith(b"HTTP/1.1 200")

    run(test)


def test_head_and_204_have_no_body() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            assert body_of(await talk(port, request("/echo", b"abc", method="HEAD"))) == b""
            empty = await talk(port, request("/empty"))
            assert empty.startswith(b"HTTP/1.1 204")
            assert b"content-length" not in empty

    run(test)


def test_faults_of_the_application_are_told_without_detail() -> None:
    async def test() -> None:
        async with running() as (_, _, port):
            for path in ("/broken", "/bad-header"):
                answer = await talk(port, request(path))
                assert answer.startswith(b"HTTP/1.1 500")
                assert b'"code":"internal"' in answer
                assert b"secret" not in answer
                assert b"set-cookie" not in answer

    run(test)


def test_uploads_wait_for_their_reader() -> None:
    async def test() -> None:
        async with running(Limits(body_bytes=1000)) as (app, _, port), connected(port) as (reader, writer):
            size = 16 << 20
            writer.write(request("/held", b"", f"Content-Length: {size}"))
            sending = asyncio.ensure_future(_send(writer, size))
            await app.running.wait()
            done, _ = await asyncio.wait([sending], timeout=0.2)
            assert not done  # it cannot all be in our memory
            app.gate.set()
            assert body_of(await reader.read()) == str(size).encode()
            await sending

    async def _send(writer: asyncio.StreamWriter, size: int) -> None:
        for _ in range(size >> 16):
            writer.write(b"x" * (1 << 16))
            await writer.drain()

    run(test)


def test_answers_wait_for_their_reader() -> None:
    async def test() -> None:
        limits = Limits(sweep_seconds=0.05)
        async with running(limits) as (app, _, port), connected(port) as (reader, writer):
            writer.write(request("/endless"))
            await reader.readexactly(10)
            before = -1
            while app.streamed != before:  # until it stands still
                before = app.streamed
                await asyncio.sleep(0.05)
            assert app.streamed < 32 << 20

    run(test)


def test_draining_closes_the_idle_and_lets_the_busy_end() -> None:
    async def test() -> None:
        async with running(Limits()) as (app, server, port):
            async with connected(port) as (idle, _), connected(port) as (reader, writer):
                writer.write(request("/gate", close=False))
                await app.running.wait()
                server.begin_drain()
                assert await idle.read() == b""
                assert body_of(await talk(port, request("/echo", b"still here", close=False))) == b"still here"
                drained = asyncio.ensure_future(server.wait_drained(10))
                app.gate.set()
                answer = await reader.read()
                assert b"connection: close" in answer
                assert body_of(answer) == b"opened"
                assert await drained
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

    run(test)


def test_draining_has_an_end() -> None:
    async def test() -> None:
        async with running(Limits()) as (app, server, port), connected(port) as (reader, writer):
            writer.write(request("/slow"))
            await app.running.wait()
            server.begin_drain()
            assert not await server.wait_drained(0.05)
            await app.cancelled.wait()
            assert await reader.read() == b""
            assert server.connections == 0

    run(test)


def test_quick_limits_do_not_touch_a_waiting_client() -> None:
    async def test() -> None:
        async with running(QUICK) as (app, _, port), connected(port) as (reader, writer):
            writer.write(request("/gate"))
            await app.running.wait()
            await asyncio.sleep(QUICK.idle_seconds + 0.2)  # longer than every deadline of the connection
            app.gate.set()
            assert body_of(await reader.read()) == b"opened"

    run(test)
