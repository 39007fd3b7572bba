"""Our server as a client sees it: streams over sockets of our own, with the time at which each of their events came."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field

from servers import Server

Marks = list[list[float]]
"""For each stream the seconds, since the start, at which each of its tokens came."""


@dataclass
class Stream:
    """A stream that was asked for. Times are on ``time.perf_counter()``."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request_id: str = ""
    taken_at: float = 0.0  # its head came: it stands in the queue since then at the latest
    events_at: list[float] = field(default_factory=list)

    async def head(self) -> None:
        """Wait until the server has taken it."""
        while (line := await self.reader.readline()).strip():
            self.taken_at = self.taken_at or time.perf_counter()
            name, _, value = line.decode().partition(":")
            if name.lower() == "x-request-id":
                self.request_id = value.strip()
        assert self.taken_at, "the stream broke off"

    async def next(self) -> bool:
        """Wait for the next event; False if it was the last."""
        while not (line := await self.reader.readline()).startswith(b"data: "):
            assert line, "the stream broke off"
        if b"[DONE]" in line:
            return False
        self.events_at.append(time.perf_counter())
        return True

    async def rest(self) -> None:
        """Read it to its end."""
        while await self.next():
            pass
        self.writer.close()


class Served:
    """The server; its model is called ``smol``."""

    def __init__(self, server: Server) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._key = server.key

    def run(self, texts: list[str], tokens: int) -> Marks:
        """Ask for all of ``texts`` at once."""

        async def one(text: str, started: float) -> list[float]:
            stream = await self.begin(text, tokens)
            await stream.rest()
            return [at - started for at in stream.events_at]

        async def all_of_them() -> Marks:
            started = time.perf_counter()
            return [*await asyncio.gather(*(one(text, started) for text in texts))]

        return asyncio.run(all_of_them())

    async def begin(self, text: str, tokens: int) -> Stream:
        """Ask for a stream, and return when it was asked for."""
        reader, writer = await asyncio.open_connection(*self._address)
        body = {"model": "smol", "prompt": text, "max_tokens": tokens, "temperature": 0, "stream": True}
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        return Stream(reader, writer)
