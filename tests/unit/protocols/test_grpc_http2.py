"""HTTP/2 as RFC 9113 has it, frame by frame: what is good is answered, what is bad ends as it should, floods too."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http2_peer import DIGITS, END, INFER, WHOLE, Peer, framed, run
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.http2.frames import Code
from mofang.surface.wire import inference_pb2 as pb

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def doubled(data: bytes) -> list[float]:
    assert data[0] == 0
    assert int.from_bytes(data[1:5], "big") == len(data) - 5
    return list(pb.ModelInferResponse.FromString(data[5:]).outputs[0].contents.fp32_contents)


def echo(size: int) -> bytes:
    """A question whose answer is a little over ``size`` bytes."""
    tensor = {"name": "x", "datatype": "UINT8", "shape": [size]}
    return bytes(
        pb.ModelInferRequest(model_name="echo", inputs=[tensor], raw_input_contents=[bytes(size)]).SerializeToString()
    )


def test_the_same_head_is_known_and_still_read_with_every_call() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        for number in range(1, 20, 2):
            peer.send(peer.call(number))
            answer = await peer.answer(number)
            assert doubled(answer.data) == [2, 4]
            assert (answer.heads[0][":status"], answer.end["grpc-status"]) == ("200", "0")
            assert answer.heads[0]["x-request-id"] == answer.end["x-request-id"]
        peer.send(peer.call(21, key="Bearer bad"), peer.call(23), peer.call(25, key=""))
        assert (await peer.answer(21)).end["mofang-code"] == "key.unknown"
        assert (await peer.answer(23)).end["grpc-status"] == "0"
        assert (await peer.answer(25)).end["mofang-code"] == "key.missing"
        assert len({asked[1] for asked in lane.asked}) == 11

    run(test)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_frames_may_be_cut_anywhere(data: st.DataObject) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        block = peer.block()
        cut = data.draw(st.integers(0, len(block)))
        padding = data.draw(st.integers(0, 20))
        head = bytes((padding,)) + bytes(5) + block[:cut] + bytes(padding)
        sent = b"".join(
            (
                http2.PREFACE,
                http2.settings({}),
                http2.frame(http2.HEADERS, http2.PADDED | http2.HAS_PRIORITY, 1, head),
                http2.frame(http2.CONTINUATION, WHOLE, 1, block[cut:]),
            )
        )
        message, at = framed(DIGITS), 0
        while at < len(message):
            end = at + data.draw(st.integers(1, len(message)))
            sent += http2.frame(http2.DATA, 0, 1, message[at:end])
            at = end
        sent += http2.frame(http2.DATA, END | http2.PADDED, 1, b"\x03\0\0\0")
        cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
        for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            peer.send(sent[start:end])
            await peer.writer.drain()
            await asyncio.sleep(0)
        assert doubled((await peer.answer(1)).data) == [2, 4]

    run(test)


def test_an_answer_waits_for_the_windows_of_call_and_connection() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet(INITIAL_WINDOW=10)
        peer.send(peer.call(1, echo(70_000)))
        while not (1 in peer.answers and peer.answers[1].pieces):
            await peer.frame()
        assert peer.answers[1].pieces == [10]
        peer.send(http2.window_update(1, 90))
        while len(peer.answers[1].data) < 100:
            await peer.frame()
        peer.send(http2.settings({http2.INITIAL_WINDOW: 100_000}))  # grows all windows that are open
        while len(peer.answers[1].data) < http2.FIRST_WINDOW:
            await peer.frame()
        assert max(peer.answers[1].pieces) <= http2.FIRST_FRAME_BYTES
        peer.send(http2.window_update(0, 10_000))
        answer = await peer.answer(1)
        assert len(pb.ModelInferResponse.FromString(answer.data[5:]).raw_output_contents[0]) == 70_000
        assert answer.end["grpc-status"] == "0"

    run(test)


def test_a_long_message_passes_our_windows() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet(INITIAL_WINDOW=1 << 24)
        peer.send(http2.window_update(0, 1 << 24), peer.head(1))
        message = framed(echo(3 << 20))
        for at in range(0, len(message), 16_384):
            peer.send(http2.frame(http2.DATA, END * (at + 16_384 >= len(message)), 1, message[at : at + 16_384]))
            if at % (1 << 19) == 0:
                await asyncio.sleep(0.01)  # a client that keeps to the window waits for it; this one roughly
        assert (await peer.answer(1)).end["grpc-status"] == "0"

    run(test)


@pytest.mark.parametrize("size", [1 << 30, (1 << 20) + 1])
def test_a_message_over_the_limit_is_refused_by_its_length_alone(size: int) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(peer.head(1), http2.frame(http2.DATA, 0, 1, b"\0" + size.to_bytes(4, "big")))
        answer = await peer.answer(1)
        assert (answer.end["grpc-status"], answer.end["mofang-code"]) == ("8", "request.too_large")
        assert "hint: send fewer rows" in answer.end["grpc-message"].replace("%0A", "\n")
        peer.send(http2.frame(http2.DATA, 0, 1, bytes(100)), peer.call(3))  # it did not know yet
        assert (await peer.answer(3)).end["grpc-status"] == "0"

    run(test, message_bytes=1 << 20)


def test_half_messages_on_one_connection_are_bounded_together() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        half = http2.frame(http2.DATA, 0, 1, b"\0" + (60_000).to_bytes(4, "big") + bytes(50_000))[9:]
        for number in range(1, 13, 2):
            peer.send(peer.head(number), http2.frame(http2.DATA, 0, number, half))
        assert (await peer.answer(11)).end["mofang-code"] == "request.too_large"
        for number in range(1, 9, 2):
            peer.send(http2.reset(number, Code.NO_ERROR))
        peer.send(peer.call(21))
        assert (await peer.answer(21)).end["grpc-status"] == "0"

    run(test, message_bytes=64_000)


def test_a_stranger_is_refused_before_she_sends_a_message() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(peer.head(1, key=""), peer.head(3, STREAM, key="Bearer bad"))
        assert (await peer.answer(1)).end["mofang-code"] == "key.missing"
        assert (await peer.answer(3)).end["grpc-status"] == "16"

    run(test)


def test_compressed_messages_are_read_within_bounds() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()

        async def ask(number: int, message: bytes, **fields: str) -> dict[str, str]:
            data = http2.frame(http2.DATA, END, number, framed(message, 1))
            peer.send(peer.head(number, **fields), data)
            return (await peer.answer(number)).end

        assert (await ask(1, gzip.compress(DIGITS), grpc_encoding="gzip"))["grpc-status"] == "0"
        bomb = await ask(3, gzip.compress(bytes(8 << 20)), grpc_encoding="gzip")
        assert bomb["mofang-code"] == "request.too_large"
        assert (await ask(5, gzip.compress(DIGITS)))["mofang-code"] == "request.malformed"
        assert (await ask(7, DIGITS, grpc_encoding="snappy"))["mofang-code"] == "request.malformed"
        assert (await ask(9, b"\x1f\x8b", grpc_encoding="gzip"))["mofang-code"] == "request.malformed"

    run(test)


BAD_CALLS = {
    "no message": (b"", "request.malformed"),
    "a message cut off": (framed(DIGITS)[:-1], "request.malformed"),
    "two messages": (framed(DIGITS) * 2, "request.malformed"),
    "bytes after it": (framed(DIGITS) + b"\0", "request.malformed"),
    "an odd flag": (framed(DIGITS, 7), "request.malformed"),
    "no protobuf": (framed(b"\xff"), "request.malformed"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_fails_alone(case: str) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        data, code = BAD_CALLS[case]
        peer.send(peer.call(1), peer.head(3), http2.frame(http2.DATA, END, 3, data), peer.call(5))
        assert [(await peer.answer(number)).end["grpc-status"] for number in (1, 3, 5)] == ["0", "3", "0"]
        assert peer.answers[3].end["mofang-code"] == code

    run(test)


def test_heads_that_are_no_call_of_ours() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        asked = [
            {"content_type": "application/json"},
            {":method": "GET"},
            {"path": "/no.Service/No"},
            {"grpc_timeout": "soon"},
            {"x": "y" * 40_000},
            {"connection": "close"},
            {"Upper": "case"},
        ]
        for index, fields in enumerate(asked):
            block = peer.block(**fields)  # type: ignore[arg-type]
            first = http2.frame(http2.HEADERS, 0, 2 * index + 1, block[:16_384])
            rest = [block[at : at + 16_384] for at in range(16_384, len(block), 16_384)] or [b""]
            more = [http2.frame(http2.CONTINUATION, 0, 2 * index + 1, piece) for piece in rest[:-1]]
            peer.send(first, *more, http2.frame(http2.CONTINUATION, WHOLE, 2 * index + 1, rest[-1]))
        assert (await peer.answer(1)).end[":status"] == "415"
        assert (await peer.answer(3)).end[":status"] == "405"
        assert (await peer.answer(5)).end["grpc-status"] == "12"
        assert (await peer.answer(7)).end["mofang-code"] == "request.malformed"
        assert (await peer.answer(9)).end["mofang-code"] == "request.head_too_large"
        assert (await peer.answer(11)).reset == Code.PROTOCOL_ERROR
        assert (await peer.answer(13)).reset == Code.PROTOCOL_ERROR

    run(test)


def flood(peer: Peer, kind: str) -> None:
    """Send ever more of what asks for nothing."""
    empty = http2.frame(http2.DATA, 0, 1, b"")
    once = {
        "settings": http2.settings({}),
        "pings": http2.frame(http2.PING, 0, 0, bytes(8)),
        "answers to settings": http2.frame(http2.SETTINGS, http2.ACK, 0),
        "answers to pings": http2.frame(http2.PING, http2.ACK, 0, bytes(8)),
        "priorities": http2.frame(http2.PRIORITY, 0, 1, bytes(5)),
        "windows": http2.window_update(0, 1),
        "unknown frames": http2.frame(99, 0, 0, b"?"),
        "empty data": empty,
    }[kind]
    peer.send(peer.head(1), once * 500)


@pytest.mark.parametrize(
    "kind",
    [
        "settings",
        "pings",
        "answers to settings",
        "answers to pings",
        "priorities",
        "windows",
        "unknown frames",
        "empty data",
    ],
)
def test_floods_end_the_connection_and_no_other(kind: str) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer, other = await connect(), await connect()
        for each in (peer, other):
            each.greet()
        flood(peer, kind)
        assert await peer.end() == Code.ENHANCE_YOUR_CALM
        other.send(other.call(1))
        assert (await other.answer(1)).end["grpc-status"] == "0"

    run(test, idle_frames=100, sweep_seconds=600)


def test_rapid_resets_end_the_connection_and_what_it_asked() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        message = pb.ModelInferRequest(model_name="slow").SerializeToString()
        for number in range(1, 200, 2):
            peer.send(peer.call(number, message), http2.reset(number, Code.NO_ERROR))
        assert await peer.end() == Code.ENHANCE_YOUR_CALM
        assert len(lane.asked) <= 51

    run(test, resets=50, sweep_seconds=600)


def test_a_head_that_does_not_end_is_cut() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(http2.frame(http2.HEADERS, 0, 1, b""), http2.frame(http2.CONTINUATION, 0, 1, b"") * 1000)
        assert await peer.end() == Code.ENHANCE_YOUR_CALM

    run(test)


def test_a_head_that_grows_when_read_is_cut() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        fields = peer.block(x="y" * 3000)
        peer.send(http2.frame(http2.HEADERS, WHOLE, 1, fields + b"\xbe" * 10_000))  # the first of the table, again
        assert await peer.end() == Code.COMPRESSION_ERROR

    run(test)


def bad(name: str) -> bytes:
    frame, data, settings_ = http2.frame, http2.DATA, http2.SETTINGS
    return {
        "a long frame": http2.HEAD.pack((1 << 20) << 8 | data, 0, 1),
        "data before any head": frame(data, 0, 1, b"x"),
        "data for the connection": frame(data, 0, 0, b"x"),
        "a stream of ours": frame(http2.HEADERS, WHOLE, 2, b"\x82"),
        "no such field": frame(http2.HEADERS, WHOLE, 1, b"\xff\xff\xff\x7f"),
        "padding over the end": frame(http2.HEADERS, WHOLE | http2.PADDED, 1, b"\x09x"),
        "a continuation of nothing": frame(http2.CONTINUATION, WHOLE, 1, b""),
        "a frame inside a head": frame(http2.HEADERS, 0, 1, b"") + frame(http2.PING, 0, 0, bytes(8)),
        "a push": frame(http2.PUSH_PROMISE, 0, 1, bytes(4)),
        "a short ping": frame(http2.PING, 0, 0, b"x"),
        "a window of nothing": http2.window_update(0, 0),
        "a window that overflows": http2.window_update(0, http2.LARGEST_WINDOW),
        "half a setting": frame(settings_, 0, 0, b"abc"),
        "settings of a stream": frame(settings_, 0, 1, b""),
        "a window setting that overflows": http2.settings({http2.INITIAL_WINDOW: 1 << 31}),
        "a small frame setting": http2.settings({http2.FRAME_BYTES: 1}),
        "a reset of nothing": http2.reset(7, Code.NO_ERROR),
        "a short reset": frame(http2.RST_STREAM, 0, 1, b"x"),
    }[name]


BAD = [
    "a long frame", "data before any head", "data for the connection", "a stream of ours", "no such field",
    "padding over the end", "a continuation of nothing", "a frame inside a head", "a push", "a short ping",
    "a window of nothing", "a window that overflows", "half a setting", "settings of a stream",
    "a window setting that overflows", "a small frame setting", "a reset of nothing", "a short reset",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_ends_the_connection_in_words(name: str) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(bad(name))
        assert await peer.end() != Code.NO_ERROR

    run(test)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", http2.PREFACE + http2.frame(http2.PING, 0, 0)])
def test_who_does_not_greet_is_sent_away(first: bytes) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.send(first)
        assert await peer.end() == Code.PROTOCOL_ERROR

    run(test)


def test_more_than_a_window_ends_the_connection() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(peer.head(1, STREAM), framed(bytes(60 << 20))[:0])
        piece = http2.frame(http2.DATA, 0, 1, bytes(60_000))  # empty messages, which nobody can answer so fast
        peer.send(piece * 40)
        assert await peer.end() == Code.FLOW_CONTROL_ERROR

    run(test)


def test_calls_at_once_are_bounded() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer, other = await connect(), await connect()
        message = pb.ModelInferRequest(model_name="slow").SerializeToString()
        for each in (peer, other):
            each.greet()
            each.send(*(each.call(number, message) for number in (1, 3, 5)))
        assert (await peer.answer(5)).reset == Code.REFUSED_STREAM
        assert (await other.answer(3)).end["mofang-code"] == "replica.overloaded"

    run(test, streams=2, calls=3)


def test_connections_of_one_address_are_bounded() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        first = await connect()
        first.greet()
        first.send(first.call(1))
        await first.answer(1)
        second = await connect()
        assert not await second.frame()

    run(test, address_connections=1)


@pytest.mark.parametrize("sent", ["nothing", "half a preface", "half a frame", "half a head", "half a message"])
def test_who_is_too_slow_is_cut(sent: str) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        if sent == "half a preface":
            peer.send(http2.PREFACE[:9])
        elif sent != "nothing":
            peer.greet()
        if sent == "half a frame":
            peer.send(peer.call(1)[:-3])
        if sent == "half a head":
            peer.send(http2.frame(http2.HEADERS, 0, 1, peer.block()))
        if sent == "half a message":
            peer.send(peer.head(1), http2.frame(http2.DATA, 0, 1, framed(DIGITS)[:-3]))
            assert (await peer.answer(1)).end["mofang-code"] == "request.timeout"
        else:
            assert await peer.end() == Code.ENHANCE_YOUR_CALM

    run(test, head_seconds=0.1, body_seconds=0.1, sweep_seconds=0.02)


def test_the_silent_are_asked_and_dropped() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        while await peer.frame():
            pass
        assert bytes(8) in peer.pings
        assert not peer.gone

    run(test, ping_seconds=0.1, pong_seconds=0.1, sweep_seconds=0.02)


@pytest.mark.parametrize("why", ["idle", "old"])
def test_a_connection_that_is_idle_or_old_is_ended_well(why: str) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        while not peer.gone:
            await peer.frame()
        assert peer.gone == [(http2.LARGEST_NUMBER, Code.NO_ERROR)]
        peer.send(peer.call(1))  # it was on its way
        assert (await peer.answer(1)).end["grpc-status"] == "0"
        peer.send(http2.frame(http2.PING, http2.ACK, 0, peer.pings[-1]))
        assert await peer.end() == Code.NO_ERROR
        assert peer.gone[-1][0] == 1

    run(test, **{f"{'idle' if why == 'idle' else 'age'}_seconds": 0.1}, sweep_seconds=0.02)


def test_a_server_that_stops_lets_calls_end_and_takes_no_new_ones() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer, idle = await connect(), await connect()
        for each in (peer, idle):
            each.greet()
        slow = pb.ModelInferRequest(model_name="slow").SerializeToString()
        peer.send(peer.call(1, slow))
        await lane.begun.wait()
        stopping = asyncio.create_task(server.stop(60))
        while not peer.pings:
            await peer.frame()
        peer.send(http2.frame(http2.PING, http2.ACK, 0, peer.pings[-1]))
        while len(peer.gone) < 2:
            await peer.frame()
        peer.send(peer.call(3), http2.reset(1, Code.NO_ERROR))
        assert await peer.end() == Code.NO_ERROR
        assert 3 not in peer.answers
        assert await idle.end() == Code.NO_ERROR
        await stopping

    run(test)


def test_a_client_that_is_gone_is_forgotten() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        peer.send(peer.call(1, pb.ModelInferRequest(model_name="slow").SerializeToString()))
        await lane.begun.wait()
        peer.writer.transport.abort()
        await lane.dropped.wait()

    run(test)


def test_the_deadline_ends_a_stream_on_the_server_too() -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer = await connect()
        peer.greet()
        message = pb.ModelInferRequest(model_name="slow").SerializeToString()
        peer.send(peer.head(1, STREAM, grpc_timeout="100m"), http2.frame(http2.DATA, 0, 1, framed(message)))
        assert (await peer.answer(1)).end["grpc-status"] == "4"
        await lane.dropped.wait()

    run(test)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5]), st.binary(max_size=60)),
        max_size=12,
    )
)
def test_no_frames_whatever_break_the_server(frames: list[tuple[int, int, int, bytes]]) -> None:
    async def test(lane: Any, server: Any, connect: Any) -> None:
        peer, other = await connect(), await connect()
        peer.greet()
        peer.send(peer.head(1, INFER), *(http2.frame(*each) for each in frames))
        peer.writer.write_eof()
        while await peer.frame():
            pass
        other.greet()
        other.send(other.call(1))
        assert doubled((await other.answer(1)).data) == [2, 4]
        assert all(answer.end.get("mofang-code") != "internal" for answer in peer.answers.values() if answer.heads)

    run(test)
