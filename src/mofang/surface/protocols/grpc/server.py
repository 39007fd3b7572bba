"""The gRPC server: inference, the standard health service, and reflection, over our own HTTP/2.

The gateway calls :func:`serve`. No library that was measured comes near what inference needs (docs/performance.md);
only this package knows what is below.
"""

from __future__ import annotations

from mofang.base.domain.errors import PortInUse
from mofang.base.storage.once import Once
from mofang.run.serve.generate import Generator
from mofang.surface.protocols.grpc import inference
from mofang.surface.protocols.grpc.health import Health
from mofang.surface.protocols.grpc.http2.house import Limits
from mofang.surface.protocols.grpc.http2.listener import Listener
from mofang.surface.protocols.grpc.inference import Inference
from mofang.surface.protocols.grpc.reflection import Reflection
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.protocols.lane import PartyLane


class GrpcServer:
    """A running server."""

    def __init__(self, listener: Listener, port: int, health: Health, streams: Streams) -> None:
        self._listener = listener
        self._health = health
        self._streams = streams
        self.port = port

    async def stop(self, grace: float) -> None:
        """Take no more calls, let those that run end within ``grace`` seconds, cancel the rest."""
        self._health.stop()
        self._streams.stop()
        await self._listener.stop(grace)


async def serve(
    lane: PartyLane,
    address: str,
    *,
    limits: Limits | None = None,
    reuse_port: bool = True,
    once: Once | None = None,
    generator: Generator | None = None,
) -> GrpcServer:
    """Serve on ``HOST:PORT`` (port 0: any free one); texts by ``generator``. Raises PortInUse."""
    streams, health = Streams(), Health(lane, (inference.SERVICE,))
    inferring = Inference(lane, streams, once, generator)
    methods = {**inferring.methods(), **health.methods(), **Reflection(lane, streams).methods()}
    listener = Listener(methods, limits or Limits())
    host, _, port = address.rpartition(":")
    try:
        bound = await listener.listen(host.strip("[]"), int(port), reuse_port=reuse_port)
    except OSError as error:
        raise PortInUse(f"cannot listen for gRPC on {address}: {error.strerror or error}") from error
    return GrpcServer(listener, bound, health, streams)
