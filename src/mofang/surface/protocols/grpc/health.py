"""The standard health service of gRPC. It needs no key, so what it costs is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from mofang.base.domain.errors import MofangError, Overloaded, RouteNotFound
from mofang.base.domain.names import new_id
from mofang.surface.protocols.grpc.talk import abort, read, service
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

    def handler(self) -> Any:
        """Return the service as gRPC wants it."""
        return service(SERVICE, {"Check": self._check}, Watch=grpc.unary_stream_rpc_method_handler(self._watch))

    def stop(self) -> None:
        """Tell those who watch that it is over."""
        self._stopping.set()

    async def _check(self, data: bytes, context: Any) -> bytes:
        try:
            name = read(pb.HealthCheckRequest, data).service
            if name not in self._known:
                raise RouteNotFound(f"no service {name[:80]!r}")
        except MofangError as error:
            return await abort(context, error, new_id("req"))
        return self._status()

    async def _watch(self, data: bytes, context: Any) -> None:
        """Send the status, and again whenever it is another; a service that is not known is no error here."""
        try:
            known = read(pb.HealthCheckRequest, data).service in self._known
            if self._watchers >= _MAX_WATCHERS:
                raise Overloaded(f"{_MAX_WATCHERS} watch already", retry_after_seconds=60)
        except MofangError as error:
            await abort(context, error, new_id("req"))
        self._watchers += 1
        try:
            sent = b""
            while not self._stopping.is_set():
                status = self._status() if known else _message("SERVICE_UNKNOWN")
                if status != sent:
                    await context.write(status)
                    sent = status
                await self._pause()
            await context.write(_message("NOT_SERVING"))
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
