"""What one turn of the event loop costs a gateway, in this process and without sockets.

    python benchmarks/serve/turn.py [thread|process] [governed|bare] [plain|traced|urgent]

Connections are real, transports are not: every turn each connection is handed the same request (or one with a trace of
its own, or a priority), and the turn ends when all are answered. The least of many turns is printed, for each request:
that is what the code costs, also on a machine that others use. With ``process`` it contains the way to the worker and
back.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop
from peers.mofang_gateway import start

from models import MODELS
from mofang.surface.server.http1 import Connection
from mofang.surface.server.listener import HttpServer

TURNS, WARM_UP_SECONDS = 1500, 0.5
SIZES = (1, 8, 64)


class Wire(asyncio.Transport):
    """Counts what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.answers = 0

    def write(self, data: bytes) -> None:
        self.answers += 1
        if not data.startswith(b"HTTP/1.1 200"):
            sys.exit(data.decode())

    def is_closing(self) -> bool:
        return False


async def turn(connections: list[Connection], wires: list[Wire], request: bytes, sort: str) -> float:
    """Have one request on each connection answered; return the seconds that took."""
    requests = [_traced(request) if sort == "traced" else request for _ in connections]
    expected = sum(wire.answers for wire in wires) + len(wires)
    began = time.perf_counter()
    for connection, each in zip(connections, requests, strict=True):
        connection.data_received(each)
    while sum(wire.answers for wire in wires) < expected:  # noqa: ASYNC110 (nothing to wait for: it is computed)
        await asyncio.sleep(0)
    return time.perf_counter() - began


def _traced(request: bytes) -> bytes:
    line = f"\r\ntraceparent: 00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00\r\n"
    return request.replace(b"\r\n", line.encode(), 1)


async def measure(placement: str, mode: str, sort: str) -> None:
    """Print a line for each number of connections."""
    model, named = MODELS["tiny"], "" if sort == "plain" else f", {sort}"
    with tempfile.TemporaryDirectory(prefix="bench-turn-") as scratch:
        folder = Path(scratch)
        model.save(folder / "tiny")
        _, choose, key = await start(folder / "tiny", placement, mode, folder / "journal", str(folder / "worker.sock"))
        server = HttpServer(choose)
        await server.serve(socket.create_server(("127.0.0.1", 0)))
        headers, body = model.json_request
        if sort == "urgent":
            body = msgspec.json.encode(msgspec.json.decode(body) | {"parameters": {"priority": 1}})
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "authorization": f"Bearer {key}"}.items())
        head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nhost: bench\r\n{lines}content-length: {len(body)}\r\n\r\n"
        for size in SIZES:
            connections, wires = [server._connect() for _ in range(size)], [Wire() for _ in range(size)]
            for connection, wire in zip(connections, wires, strict=True):
                connection.connection_made(wire)
            until = time.monotonic() + WARM_UP_SECONDS
            while time.monotonic() < until:
                await turn(connections, wires, head.encode() + body, sort)
            best = min([await turn(connections, wires, head.encode() + body, sort) for _ in range(TURNS)])
            print(
                f"{placement}, {mode}{named}, {size:3} requests a turn: {best / size * 1e6:7.2f} us a request",
                flush=True,
            )
    os._exit(0)  # the worker ends with this process


if __name__ == "__main__":
    uvloop.run(measure(*(sys.argv[1:] + ["thread", "governed", "plain"][len(sys.argv) - 1 :])))
