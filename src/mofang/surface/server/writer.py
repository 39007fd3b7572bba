"""The answering side of an HTTP/1.1 connection: answers to bytes, as fast as the peer reads.

One for each connection; ``http1`` tells it when the transport's buffer is full and when it has room again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import aclosing

from mofang.base.domain.errors import MofangError
from mofang.surface.protocols.http import HttpResponse, HttpStream, error_response
from mofang.surface.server.exchange import House
from mofang.surface.server.heads import response_head

_BODYLESS = frozenset({204, 304})
_CLOSE = "connection: close\r\n"
_CLOSE_LINE = _CLOSE.encode()
_FIRST_LOOK_SECONDS, _LOOK_SECONDS = 0.0005, 0.05  # after a knock, whether it was answered by a reset
_log = logging.getLogger(__name__)


class Writer:
    """Writes answers; ``blocked_at`` is since when the peer has not kept up."""

    def __init__(self, transport: asyncio.Transport, house: House) -> None:
        self._transport = transport
        self._house = house
        self._unblocked: asyncio.Future[None] | None = None
        self._pause = b""  # what a peer that reads on passes over, now
        self.blocked_at: float | None = None

    def knock(self) -> None:
        """Find out whether a peer that sends no more is gone, and hang up if it is.

        A connection that was closed looks like one on which only nothing more is sent, until something is written to
        it: then the peer's side resets it. Nobody else tells, since nothing is read any more.
        """
        if self._pause:
            self._transport.write(self._pause)
        self._look(_FIRST_LOOK_SECONDS)

    def _look(self, wait_seconds: float) -> None:
        if self._transport.is_closing():
            return
        if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
        else:
            self._house.loop.call_later(wait_seconds, self._look, min(2 * wait_seconds, _LOOK_SECONDS))

    def block(self) -> None:
        """Hold back: the buffer is full."""
        self.blocked_at = self._house.loop.time()

    def unblock(self) -> None:
        """Go on."""
        self.blocked_at = None
        if self._unblocked is not None and not self._unblocked.done():
            self._unblocked.set_result(None)

    async def send(self, method: str, reply: HttpResponse | HttpStream, keep: bool) -> bool:
        """Write an answer; tell whether the connection may stay open after it (False: it broke off)."""
        try:
            if isinstance(reply, HttpStream):
                keep = await self._send_stream(method, reply, keep) and keep
            else:
                keep = self.send_whole(method, reply, keep)
        except MofangError as error:  # the head cannot be written; nothing has been
            return self.send_whole(method, error_response(error), keep=False)
        if self.blocked_at is not None:
            await self.room()
        return keep

    def send_whole(self, method: str, reply: HttpResponse, keep: bool) -> bool:
        """Write a whole answer at once; tell whether the connection may stay open after it."""
        try:
            self.write(method, reply, keep)
        except MofangError as error:  # the head cannot be written; nothing has been
            self.write(method, error_response(error), keep=False)
            return False
        return keep

    def send_well(self, lines: bytes, body: bytes, keep: bool) -> None:
        """Write a good answer at once; ``lines`` are its header fields."""
        connection = b"" if keep else _CLOSE_LINE
        self._transport.write(
            b"%b%bcontent-length: %d\r\n%b\r\n%b" % (self._house.well, lines, len(body), connection, body)
        )

    def write(self, method: str, reply: HttpResponse, keep: bool) -> None:
        """Write a whole answer at once."""
        bodyless = reply.status in _BODYLESS
        length = "" if bodyless else f"content-length: {len(reply.body)}\r\n"
        connection = "" if keep else _CLOSE
        head = response_head(reply.status, reply.headers, reply.lines, self._house.date, length, connection)
        self._transport.write(head if bodyless or method == "HEAD" else head + reply.body)

    async def _send_stream(self, method: str, reply: HttpStream, keep: bool) -> bool:
        length = next((int(value) for name, value in reply.headers if name == "content-length"), None)
        bodyless = reply.status in _BODYLESS or method == "HEAD"
        chunked = length is None and not bodyless
        sent = 0
        async with aclosing(reply.chunks) as pieces:
            self._transport.write(self._head(reply, "transfer-encoding: chunked\r\n" if chunked else "", keep))
            self._pause = _chunk(reply.pause) if chunked and reply.pause else b""
            try:
                async for piece in pieces:
                    if piece and not bodyless:
                        sent += len(piece)
                        self._transport.write(_chunk(piece) if chunked else piece)
                    if self.blocked_at is not None:
                        await self.room()
            except Exception:
                _log.exception("an answer broke off")
                self._transport.abort()
                return False
            finally:
                self._pause = b""
        if chunked:
            self._transport.write(b"0\r\n\r\n")
        elif not bodyless and sent != length:
            self._transport.abort()
            return False
        return True

    def _head(self, reply: HttpStream, framing: str, keep: bool) -> bytes:
        return response_head(reply.status, reply.headers, self._house.date, framing, "" if keep else _CLOSE)

    async def room(self) -> None:
        """Wait until the peer has read on, if it has not by now."""
        if self.blocked_at is not None:
            self._unblocked = self._house.loop.create_future()
            await self._unblocked


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
