"""Clients that send a byte now and then, in the head of a request and in its body: they are closed in bounded time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from asking import address, slow_request

from servers import Server

MOST_SECONDS = 15.0


@dataclass
class Dawdler:
    """One connection that sends ``content`` byte by byte, one a second, after ``at_once`` bytes of it."""

    content: bytes
    at_once: int = 1
    over_grpc: bool = False
    lived: float = 0.0
    heard: bytes = b""

    async def run(self, server: Server) -> None:
        host, port = address(server, "grpc" if self.over_grpc else "http")
        reader, writer = await asyncio.open_connection(host, port)
        began = time.monotonic()
        try:
            writer.write(self.content[: self.at_once])
            sending = asyncio.create_task(self._dribble(writer))
            try:
                self.heard = await reader.read()
            finally:
                sending.cancel()
        except ConnectionResetError:
            self.heard = self.heard or b"reset"
        self.lived = time.monotonic() - began
        writer.close()

    async def _dribble(self, writer: asyncio.StreamWriter) -> None:
        for at in range(self.at_once, len(self.content)):
            await asyncio.sleep(1)
            writer.write(self.content[at : at + 1])


def dawdle(server: Server, connections: int) -> float:
    """Open so many connections that dawdle, of five kinds; return the seconds that the last of them lived.

    Fails if one lives longer than :data:`MOST_SECONDS`, or is not told why it is closed.
    """
    infer = slow_request(server.key, 1, endpoint="scale")
    upload = infer.replace(b"/v2/models/scale/infer", b"/api/v1/uploads")  # a body that is handed on as it comes
    body = infer.index(b"\r\n\r\n") + 4
    kinds = [
        Dawdler(infer),  # in the head
        Dawdler(infer, body),
        Dawdler(upload, body),
        Dawdler(b""),  # says nothing
        Dawdler(b"PRI * HTTP/2.0", over_grpc=True),
    ]
    dawdlers = [replace(kind) for kind in kinds for _ in range(connections // len(kinds))]
    asyncio.run(_run_all(dawdlers, server))
    slowest = max(dawdlers, key=lambda each: each.lived)
    assert slowest.lived <= MOST_SECONDS, slowest
    for each in dawdlers:
        assert each.heard.startswith(b"HTTP/1.1 408 ") or not each.content or each.over_grpc, each
    return slowest.lived


async def _run_all(dawdlers: list[Dawdler], server: Server) -> None:
    async with asyncio.timeout(2 * MOST_SECONDS):
        await asyncio.gather(*(each.run(server) for each in dawdlers))
