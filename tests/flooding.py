"""A flood of one request, from a process of its own that costs next to nothing: what is busy shall be the server.

Who asks in threads of the test's own process waits for its interpreter lock, and counts that as the server's time.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


@dataclass
class Flood:
    """What a flood came to; filled in when it has ended."""

    asked: int = 0
    seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)  # by status
    waits: list[float] = field(default_factory=list)  # seconds, of each answer


@contextmanager
def flooding(address: tuple[str, int], request: bytes, connections: int, seconds: float) -> Iterator[Flood]:
    """Send the HTTP ``request`` on so many connections, on each once in so many seconds, while the body runs."""
    flood = Flood()
    command = [sys.executable, __file__, *map(str, address), request.decode(), str(connections), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield flood
        finally:
            output, _ = process.communicate(timeout=30)  # ends its input, and thereby the flood
    counts = json.loads(output)
    flood.asked, flood.seconds, flood.waits = counts.pop("asked"), counts.pop("seconds"), counts.pop("waits")
    flood.answers = counts


class _Connection(asyncio.Protocol):
    """The same request again and again, at its times, whether or not others are answered."""

    def __init__(self, request: bytes, seconds: float, begin: float, counts: Counter[str], waits: list[float]) -> None:
        self._request = request
        self._seconds = seconds
        self._begin = begin
        self._counts = counts
        self._waits = waits
        self._asked_at: float | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._loop.call_at(self._begin, self._ask, self._begin)

    def data_received(self, data: bytes) -> None:
        for status in _STATUS.findall(data):
            self._counts[status.decode()] += 1
            if self._asked_at is not None:
                self._waits.append(self._loop.time() - self._asked_at)
            self._asked_at = None

    def _ask(self, due: float) -> None:
        due += self._seconds
        self._loop.call_at(due, self._ask, due)
        if self._asked_at is None:  # else it is late: a connection has one request at a time, and counts what it sent
            self._asked_at = due - self._seconds
            self._counts["asked"] += 1
            self._transport.write(self._request)  # type: ignore[attr-defined]


async def _flood(host: str, port: int, request: bytes, connections: int, seconds: float) -> dict[str, object]:
    loop, counts, waits = asyncio.get_running_loop(), Counter[str](asked=0), list[float]()
    began = loop.time()
    for number in range(connections):
        begin = began + seconds * (1 + number / connections)
        await loop.create_connection(
            lambda begin=begin: _Connection(request, seconds, begin, counts, waits), host, port
        )
    await loop.run_in_executor(None, sys.stdin.read)
    # A copy: while the loop ends, more may come.
    return {**counts, "seconds": loop.time() - began - seconds, "waits": [*waits]}


if __name__ == "__main__":
    host, port, request, connections, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(_flood(host, int(port), request.encode(), int(connections), float(seconds)))))
