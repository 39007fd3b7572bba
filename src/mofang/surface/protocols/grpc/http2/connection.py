"""One HTTP/2 connection: from bytes to calls, from answers to bytes.

The life of a call here::

    data_received -> _on_headers (-> _on_continuation) -> _head -> Stream.begin
                  -> _on_data ... -> Stream.feed -> its method answers -> Stream.reply -> leave

What is wrong with a call ends the call, in words; what is wrong with the frames ends the connection by a GOAWAY, since
both sides would not agree any more on what follows. What a client may send that asks for nothing (resets, pings,
settings, empty frames) is counted between two sweeps of the house, so that no flood of it keeps the server busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from mofang.base.domain.errors import Overloaded, RequestTooLarge, RouteNotFound
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.http2.ending import DRAINING, Ending
from mofang.surface.protocols.grpc.http2.frames import Code, ConnectionFault, StreamFault
from mofang.surface.protocols.grpc.http2.heads import HEAD_BYTES, HeadReader, http_refusal
from mofang.surface.protocols.grpc.http2.house import House
from mofang.surface.protocols.grpc.http2.stream import WINDOW, Method, Stream
from mofang.surface.wire.status import sentence

_WINDOW = 16 << 20  # bytes that all calls of a connection may have under way to us
_FRAME_BYTES = 64 << 10
_CONTINUATIONS = 8
_UNIMPLEMENTED = 12


class Connection(Ending):
    """The server's end; see :class:`~mofang.surface.protocols.grpc.http2.stream.Link` for what streams see."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.message_bytes = house.limits.message_bytes
        self.peer = ""
        self.window = http2.FIRST_WINDOW
        self.frame_bytes = http2.FIRST_FRAME_BYTES
        self.stuck: dict[int, Stream] = {}
        self._heads = HeadReader()
        self._greeted = False  # the preface came
        self._continuations = 0
        self._first_window = http2.FIRST_WINDOW  # of the client, for each new stream
        self._credit = _WINDOW
        self._held = 0  # bytes of messages that are not whole

    # --- the transport calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection and say what we take, or hang up."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self.house.enter(self, self.peer):
            self._left = True
            self._transport.abort()
            return
        said = {
            http2.CONCURRENT_STREAMS: self.house.limits.streams,
            http2.INITIAL_WINDOW: WINDOW,
            http2.FRAME_BYTES: _FRAME_BYTES,
            http2.HEAD_LIST_BYTES: HEAD_BYTES,
        }
        self.write(http2.settings(said) + http2.window_update(0, _WINDOW - http2.FIRST_WINDOW))

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._transport.is_closing():
            return
        if self._rest:
            data = self._rest + data
        self._heard_at = self.loop.time()
        try:
            read = self._read(data)
        except ConnectionFault as fault:
            self._hang_up(fault.code, str(fault))
            return
        self._rest = data[read:]
        if not self._unfinished or (read and self._block is None):
            self._began_at = self._heard_at  # what is unfinished now is new

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what ran for a peer that is gone."""
        for stream in list(self.streams.values()):
            stream.cancel()
        self.house.leave(self, self.peer)

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write: take nothing more from it."""
        self.blocked_at = self.loop.time()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.blocked_at = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
        for stream in list(self.streams.values()):
            stream.notice_room()

    # --- reading ----------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> int:
        """Deal with all whole frames of ``data``; return where the first begins that is not whole."""
        at, size = 0, len(data)
        if not self._greeted:
            if not http2.PREFACE.startswith(data[:24]):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this port speaks gRPC: HTTP/2 without an upgrade")
            if size < 24:
                return 0
            self._greeted, at = True, 24
        unpack, frames = http2.HEAD.unpack_from, _FRAMES
        while size - at >= 9:
            length, flags, number = unpack(data, at)
            kind, length = length & 255, length >> 8
            if length > _FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes; at most {_FRAME_BYTES}")
            end = at + 9 + length
            if end > size:
                break
            if self._block is not None and kind != http2.CONTINUATION:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "another frame inside a head")
            if not self._settled and kind != http2.SETTINGS:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is SETTINGS")
            frames.get(kind, Connection._on_other)(self, flags, number & http2.LARGEST_NUMBER, data[at + 9 : end])
            at = end
        return at

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        if flags & http2.PADDED:
            payload = http2.unpadded(flags, payload)
        self._credit -= size
        if self._credit < _WINDOW // 2:
            if self._credit < 0:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more than the window of the connection")
            self.write(http2.window_update(0, _WINDOW - self._credit))
            self._credit = _WINDOW
        stream = self.streams.get(number)
        ended = bool(flags & http2.END_STREAM)
        if stream is None or stream.ended:
            if number == 0 or number > self._last or stream is not None:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "data for a call that is not open")
            self._idle()  # it was ended by us, and the client did not know
        else:
            if not payload and not ended:
                self._idle()
            self._tell(stream, partial(stream.feed, payload, size, ended))

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & http2.PADDED:
            payload = http2.unpadded(flags, payload)
        if flags & http2.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a priority is cut off")
            payload = payload[5:]
        ended = bool(flags & http2.END_STREAM)
        if flags & http2.END_HEADERS:
            self._head(number, payload, ended)
        else:
            self._block, self._continuations = (number, ended, payload), 0

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or number != self._block[0]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "nothing is continued here")
        self._continuations += 1
        block = self._block[2] + payload
        if self._continuations > _CONTINUATIONS or len(block) > 4 * HEAD_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a head that does not end")
        self._block = (number, self._block[1], block)
        if flags & http2.END_HEADERS:
            ended, self._block = self._block[1], None
            self._head(number, block, ended)

    def _head(self, number: int, block: bytes, ended: bool) -> None:
        """A head is whole. It is read in any case, since the heads after it refer to it."""
        try:
            head = self._heads.read(block)
        except StreamFault:
            head = None
        stream = self.streams.get(number)
        if stream is not None:  # fields after the messages, which mean nothing to us
            if stream.ended or not ended:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a second head")
            self._tell(stream, stream.finish_receiving)
            return
        if not number & 1 or number <= self._last:
            if not number & 1:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"{number} is no stream of a client")
            self._idle()  # it was ended by us, and the client did not know
            return
        self._last = number
        if self._left:
            return  # the GOAWAY has told that it is not looked at
        if len(self.streams) >= self.house.limits.streams:
            self._idle()
            self.write(http2.reset(number, Code.REFUSED_STREAM))
        elif head is None:
            self._idle()
            self.write(http2.reset(number, Code.PROTOCOL_ERROR))
        elif head.http_status != 200:
            flags = http2.END_HEADERS | http2.END_STREAM
            self.write(http2.frame(http2.HEADERS, flags, number, http_refusal(head.http_status)))
            if not ended:
                self.write(http2.reset(number, Code.NO_ERROR))
        else:
            method = self.house.methods.get(head.path, _NO_METHOD)
            stream = self.streams[number] = Stream(self, number, head, method, self._first_window)
            self.house.calls += 1
            if method is _NO_METHOD:
                missing = RouteNotFound(f"no such call: {head.path[:200]!r}", hint="reflection lists the calls")
                stream.ended = ended
                stream.end_badly(_UNIMPLEMENTED, sentence(missing), (("mofang-code", missing.code),))
            else:
                self._tell(stream, partial(self._open, stream, ended))

    def _open(self, stream: Stream, ended: bool) -> None:
        if self.house.calls > self.house.limits.calls:
            raise Overloaded("too many calls at once", retry_after_seconds=1)
        stream.ended = ended
        stream.begin()
        if ended:
            stream.finish_receiving()

    def _on_priority(self, flags: int, number: int, payload: bytes) -> None:
        self._idle()

    def _on_reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a reset is four bytes")
        if number == 0 or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a reset of what was never opened")
        self._resets += 1
        if self._resets > self.house.limits.resets:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many calls are taken back")
        stream = self.streams.get(number)
        if stream is not None:
            stream.cancel()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number or (flags & http2.ACK and payload):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "settings are of the connection")
        self._idle()
        if flags & http2.ACK:
            return
        self._settled = True
        for name, value in http2.read_settings(payload):
            if name == http2.INITIAL_WINDOW:
                grown, self._first_window = value - self._first_window, value
                for stream in self.streams.values():
                    stream.window += grown
                self._push()
            elif name == http2.FRAME_BYTES:
                self.frame_bytes = min(value, 1 << 20)
        self.write(http2.frame(http2.SETTINGS, http2.ACK, 0))

    def _on_push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "clients do not push")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8 or number:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a ping is eight bytes")
        self._idle()
        if not flags & http2.ACK:
            self.write(http2.frame(http2.PING, http2.ACK, 0, payload))
            return
        self._pinged_at = None
        if payload == DRAINING:
            self._leave_now()

    def _on_go_away(self, flags: int, number: int, payload: bytes) -> None:
        if self._leaving_at is None:
            self._leaving_at = self.loop.time()
        self._leave_now()

    def _on_window_update(self, flags: int, number: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & http2.LARGEST_WINDOW
        if len(payload) != 4 or not increment or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "no such window")
        self._idle()
        stream = self.streams.get(number)
        if stream is not None:
            stream.window += increment
            if stream.window > http2.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            stream.push()
        elif not number:
            self.window += increment
            if self.window > http2.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window that is too large")
            self._push()

    def _on_other(self, flags: int, number: int, payload: bytes) -> None:
        self._idle()  # extensions that we do not know are to be ignored

    def _idle(self) -> None:
        """Count a frame that asks for nothing."""
        self._idle_frames += 1
        if self._idle_frames > self.house.limits.idle_frames:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    # --- what streams do --------------------------------------------------------------------------------------

    def hold(self, count: int) -> None:
        """Count bytes of messages that are not whole. Raises RequestTooLarge if they become too many."""
        self._held += count
        most = self.house.limits.held_messages * self.message_bytes
        if count > 0 and self._held > most:
            raise RequestTooLarge(f"more than {most} bytes of messages are half sent on one connection")

    def leave(self, stream: Stream) -> None:
        """A stream has ended."""
        if self.streams.pop(stream.number, None) is None:
            return
        self.stuck.pop(stream.number, None)
        self.house.calls -= 1
        if not self.streams:
            self._busy_at = self.loop.time()
            if self._left:
                self._transport.close()

    def _push(self) -> None:
        for stream in list(self.stuck.values()):
            stream.push()


_FRAMES: Mapping[int, Callable[[Connection, int, int, bytes], None]] = {
    http2.DATA: Connection._on_data,
    http2.HEADERS: Connection._on_headers,
    http2.PRIORITY: Connection._on_priority,
    http2.RST_STREAM: Connection._on_reset,
    http2.SETTINGS: Connection._on_settings,
    http2.PUSH_PROMISE: Connection._on_push_promise,
    http2.PING: Connection._on_ping,
    http2.GOAWAY: Connection._on_go_away,
    http2.WINDOW_UPDATE: Connection._on_window_update,
    http2.CONTINUATION: Connection._on_continuation,
}
_NO_METHOD = Method(lambda stream: None)
