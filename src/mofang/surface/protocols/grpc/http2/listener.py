"""A listening gRPC server: makes connections, looks at their deadlines, and ends them well."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mofang.surface.protocols.grpc.http2.connection import Connection
from mofang.surface.protocols.grpc.http2.house import House, Limits
from mofang.surface.protocols.grpc.http2.stream import Method

_BACKLOG = 1024


class Listener:
    """Answers calls by ``methods``, found by their path; lives on the running event loop."""

    def __init__(self, methods: Mapping[str, Method], limits: Limits) -> None:
        self._house = House(methods, limits, asyncio.get_running_loop())
        self._server: asyncio.Server
        self._timer: asyncio.TimerHandle | None = None

    @property
    def calls(self) -> int:
        """How many calls run."""
        return self._house.calls

    async def listen(self, host: str, port: int, *, reuse_port: bool) -> int:
        """Start to accept connections; return the port. Raises OSError."""
        loop = self._house.loop
        self._server = await loop.create_server(
            lambda: Connection(self._house), host, port, backlog=_BACKLOG, reuse_port=reuse_port
        )
        self._sweep()
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self, grace: float) -> None:
        """Take no more connections, let the calls that run end within ``grace`` seconds, drop the rest."""
        house = self._house
        self._server.close()
        house.draining = True
        for connection in list(house.connections):
            connection.drain()
        try:
            async with asyncio.timeout(grace):
                await self._emptied()
        except TimeoutError:
            for connection in list(house.connections):
                connection.abort()
            await self._emptied()
        if self._timer is not None:
            self._timer.cancel()

    async def _emptied(self) -> None:
        house = self._house
        while house.connections:
            house.empty.clear()
            await house.empty.wait()

    def _sweep(self) -> None:
        house = self._house
        self._timer = house.loop.call_later(house.limits.sweep_seconds, self._sweep)
        now = house.loop.time()
        for connection in list(house.connections):
            connection.check(now)
