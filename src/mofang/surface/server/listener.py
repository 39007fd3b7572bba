"""A listening HTTP server: makes connections, looks at their deadlines, and ends them well.

The gateway makes one for its port. Deadlines are looked at by one sweep over all connections instead of a timer for
each request: a request then pays nothing for them.
"""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate

from mofang.surface.protocols.http import error_response
from mofang.surface.server.exchange import House, Limits, Refused, Router, Turn
from mofang.surface.server.http1 import Connection

_BACKLOG = 1024
_UNSENT_BYTES = 128 << 10
"""What the kernel keeps for a peer that does not read. By itself it takes megabytes, and such a peer looks well."""


class HttpServer:
    """Serves HTTP/1.1 on sockets it is given; lives on the running event loop."""

    def __init__(
        self,
        router: Router,
        limits: Limits | None = None,
        refused: Refused = lambda head, error, request_id: error_response(error),
    ) -> None:
        loop = asyncio.get_running_loop()
        self._house = House(router, limits or Limits(), loop, Turn(loop), refused)
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._house.connections)

    @property
    def busy(self) -> int:
        """How many connections receive or answer a request."""
        return sum(connection.busy for connection in self._house.connections)

    @property
    def answered(self) -> int:
        """How many requests the application has answered."""
        return self._house.answered

    async def serve(self, sock: socket.socket) -> None:
        """Start to accept connections on a bound socket, TCP or Unix."""
        loop = self._house.loop
        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(self._connect, sock=sock, backlog=_BACKLOG)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)  # connections inherit it
            server = await loop.create_server(self._connect, sock=sock, backlog=_BACKLOG)
        self._servers.append(server)
        if self._timer is None:
            self._sweep()

    def begin_drain(self) -> None:
        """Close idle connections; let every other end with the answer it waits for.

        New connections are still taken, so that clients hear from the application that it is stopping.
        """
        self._house.draining = True
        for connection in list(self._house.connections):
            connection.drain()
        self._house.notice_quiet()

    async def wait_drained(self, timeout: float) -> bool:
        """Wait until nothing is being answered, then stop listening and drop what is left; tell if all ended well."""
        try:
            async with asyncio.timeout(timeout):
                await self._house.quiet.wait()
            well = True
        except TimeoutError:
            well = False
        await self.close()
        return well

    async def close(self) -> None:
        """Stop at once."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._house.empty.clear()
        for connection in list(self._house.connections):
            connection.abort()
        if self._house.connections:
            await self._house.empty.wait()

    def _connect(self) -> Connection:
        return Connection(self._house)

    def _sweep(self) -> None:
        house = self._house
        self._timer = house.loop.call_later(house.limits.sweep_seconds, self._sweep)
        now = house.loop.time()
        house.date = f"date: {formatdate(usegmt=True)}\r\n"
        house.well = b"HTTP/1.1 200 OK\r\n" + house.date.encode()
        for connection in list(house.connections):
            connection.check(now)
