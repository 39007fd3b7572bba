"""The standard health service of gRPC. It needs no key, so what it costs is bounded."""

from __future__ import annotations

import asyncio

from mofang.base.domain.errors import InvalidRequest, Overloaded, RouteNotFound
from mofang.surface.protocols.grpc.http2.stream import Method, Stream
from mofang.surface.protocols.grpc.talk import anybody, read, streamed, unary
from mofang.surface.protocols.lane import Lane
from mofang.surface.wire import health_pb2 as pb

SERVICE = "grpc.health.v1.Health"
_MAX_WATCHERS = 64
_LOOK_SECONDS = 0.25  # how often a watcher looks


class Health:
    """Says whether the server takes requests; ``known`` are the services it says it of."""

    def __init__(self, lane: Lane, known: tuple[str, ...]) -> None:
        self._lane = lane
        self._known = ("", *known)
        self._watchers = 0
        self._stopping = asyncio.Event()

    def methods(self) -> dict[str, Method]:
        """Return the calls of the service, by their paths."""
        return {
            f"/{SERVICE}/Check": unary(self._check, anybody),
            f"/{SERVICE}/Watch": streamed(self._watch, anybody),
        }

    def stop(self) -> None:
        """Tell those who watch that it is over."""
        self._stopping.set()

    async def _check(self, data: bytes, stream: Stream, request_id: str) -> bytes:
        name = read(pb.HealthCheckRequest, data).service
        if name not in self._known:
            raise RouteNotFound(f"no service {name[:80]!r}")
        return self._status()

    async def _watch(self, stream: Stream, request_id: str) -> None:
        """Send the status, and again whenever it is another; a service that is not known is no error here."""
        data = await anext(stream, None)
        if data is None:
            raise InvalidRequest("a call without a message")
        known = read(pb.HealthCheckRequest, data).service in self._known
        if self._watchers >= _MAX_WATCHERS:
            raise Overloaded(f"{_MAX_WATCHERS} watch already", retry_after_seconds=60)
        self._watchers += 1
        try:
            sent = b""
            while not self._stopping.is_set():
                status = self._status() if known else _message("SERVICE_UNKNOWN")
                if status != sent:
                    await stream.write(status)
                    sent = status
                await self._pause()
            await stream.write(_message("NOT_SERVING"))
        finally:
            self._watchers -= 1

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _status(self) -> bytes:
        return _message("SERVING" if self._lane.ready else "NOT_SERVING")


def _message(status: str) -> bytes:
    return bytes(pb.HealthCheckResponse(status=status).SerializeToString())
