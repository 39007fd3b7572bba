"""The gRPC server: inference, the standard health service, and reflection.

The gateway calls :func:`serve`. This is the only module that knows which HTTP/2 implementation runs below (grpc.aio);
another one has to offer the same function.
"""

from __future__ import annotations

from typing import Any

from grpc import aio

from mofang.base.domain.errors import PortInUse
from mofang.base.storage.once import Once
from mofang.surface.protocols.grpc import inference
from mofang.surface.protocols.grpc.health import Health
from mofang.surface.protocols.grpc.inference import Inference
from mofang.surface.protocols.grpc.reflection import Reflection
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.lane import Lane

_HEAD_BYTES = 32 << 10
_MAX_CALLS = 4096
# The HTTP/2 below keeps what the HTTP server of the gateway keeps by itself, in milliseconds.
_PATIENCE = (
    ("grpc.server_handshake_timeout_ms", 10_000),  # a connection has to speak HTTP/2 by then
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 3_600_000),  # then the client is asked to connect anew,
    ("grpc.max_connection_age_grace_ms", 300_000),  # and what it still asks has this time to end
    ("grpc.keepalive_time_ms", 60_000),  # a peer that does not answer a ping is gone
    ("grpc.keepalive_timeout_ms", 20_000),
)


class GrpcServer:
    """A running server."""

    def __init__(self, server: Any, port: int, health: Health, streams: Streams) -> None:
        self._server = server
        self._health = health
        self._streams = streams
        self.port = port

    async def stop(self, grace: float) -> None:
        """Take no more calls, let those that run end within ``grace`` seconds, cancel the rest."""
        self._health.stop()
        self._streams.stop()
        await self._server.stop(grace)


async def serve(
    lane: Lane,
    address: str,
    *,
    max_message_bytes: int = 64 << 20,
    reuse_port: bool = True,
    once: Once | None = None,
) -> GrpcServer:
    """Serve on ``HOST:PORT`` (port 0: any free one). Raises PortInUse."""
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", _HEAD_BYTES),
        ("grpc.so_reuseport", int(reuse_port)),
        *_PATIENCE,
    ]
    server = aio.server(options=options, maximum_concurrent_rpcs=_MAX_CALLS)
    streams, health = Streams(), Health(lane, (inference.SERVICE,))
    handlers = [Inference(lane, streams, once).handler(), health.handler(), *Reflection(lane, streams).handlers()]
    server.add_generic_rpc_handlers(tuple(handlers))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortInUse(f"cannot listen for gRPC on {address}") from error
    await server.start()
    return GrpcServer(server, port, health, streams)
