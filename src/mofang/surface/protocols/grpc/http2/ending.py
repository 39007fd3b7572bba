"""How a connection ends: by its deadlines, when the server stops, when the peer does what nobody can go on after.

``connection`` is what comes before the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from mofang.base.domain.errors import Internal, MofangError
from mofang.base.domain.names import new_id
from mofang.surface.protocols.grpc.http2 import frames as http2
from mofang.surface.protocols.grpc.http2.frames import Code, ConnectionFault
from mofang.surface.protocols.grpc.http2.house import House
from mofang.surface.protocols.grpc.http2.stream import Stream

_LEAVE_SECONDS = 1.0  # for the client to answer that it knows that we end
DRAINING = b"draining"
"""Our ping after the first GOAWAY: who answers it has read that, and opens no more calls."""
_log = logging.getLogger(__name__)


class Ending(asyncio.Protocol):
    """The part of a connection that knows when it is over."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.loop = house.loop
        self.blocked_at: float | None = None
        self.streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport
        self._rest = b""  # of a frame that is not whole
        self._block: tuple[int, bool, bytes] | None = None  # a head that continues: stream, last frame, bytes so far
        self._settled = False  # the first settings came
        self._last = 0  # the highest stream the client has opened
        self._idle_frames = self._resets = 0  # since the last sweep
        self._made_at = self._heard_at = self._busy_at = self._began_at = self.loop.time()
        self._pinged_at: float | None = None
        self._leaving_at: float | None = None  # since the first GOAWAY
        self._left = False  # the last GOAWAY is out: no new calls

    def write(self, data: bytes) -> None:
        """Send frames."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def drain(self) -> None:
        """End as soon as no call runs; a call that is on its way now is still taken."""
        if self._leaving_at is None:
            self._leaving_at = self.loop.time()
            self.write(http2.go_away(http2.LARGEST_NUMBER, Code.NO_ERROR))
            self.write(http2.frame(http2.PING, 0, 0, DRAINING))

    def abort(self) -> None:
        """Drop the connection and what runs for it."""
        self._transport.abort()

    def check(self, now: float) -> None:
        """Enforce the deadlines; the sweep calls this."""
        limits = self.house.limits
        self._idle_frames = self._resets = 0
        for stream in list(self.streams.values()):
            self._tell(stream, partial(stream.check, now, limits.body_seconds, limits.body_rate))
        self._check_age(now)
        if self.blocked_at is not None:
            if now > self.blocked_at + limits.write_seconds:
                self.abort()
        elif self._unfinished:
            if now > self._began_at + limits.head_seconds:
                self._hang_up(Code.ENHANCE_YOUR_CALM, f"a frame did not arrive within {limits.head_seconds:g} s")
        else:
            self._check_silence(now)

    def _check_age(self, now: float) -> None:
        """Drain a connection that is old or has had no call for long; end one that has drained for long."""
        limits = self.house.limits
        if self._leaving_at is not None:
            if now > self._leaving_at + _LEAVE_SECONDS:
                self._leave_now()
            if now > self._leaving_at + limits.grace_seconds:
                self.abort()
        elif now > self._made_at + limits.age_seconds or (
            self._settled and not self.streams and now > self._busy_at + limits.idle_seconds
        ):
            self.drain()

    def _check_silence(self, now: float) -> None:
        """Ask a peer that has been silent whether it is still there; drop it if it does not say so."""
        limits = self.house.limits
        if self._pinged_at is None:
            if now > self._heard_at + limits.ping_seconds:
                self._pinged_at = now
                self.write(http2.frame(http2.PING, 0, 0, bytes(8)))
        elif self._heard_at > self._pinged_at:
            self._pinged_at = None
        elif now > self._pinged_at + limits.pong_seconds:
            self.abort()

    @property
    def _unfinished(self) -> bool:
        """Whether a frame, a head or the first settings have begun and not ended."""
        return bool(self._rest) or self._block is not None or not self._settled

    def _leave_now(self) -> None:
        """Take no more calls, and close when none runs."""
        if not self._left:
            self._left = True
            self.write(http2.go_away(self._last, Code.NO_ERROR))
            if not self.streams:
                self._transport.close()

    def _hang_up(self, code: Code, words: str) -> None:
        if not self._transport.is_closing():
            self._left = True
            self.write(http2.go_away(self._last, code, words))
            self._transport.close()
        for stream in list(self.streams.values()):
            stream.cancel()

    def _tell(self, stream: Stream, what: Callable[[], None]) -> None:
        """Hand something to a stream; what it refuses ends it."""
        try:
            what()
        except MofangError as error:
            stream.fail(error, new_id("req"))
        except ConnectionFault:
            raise
        except Exception:
            _log.exception("a call failed")
            stream.fail(Internal("the server failed on this request"), new_id("req"))
