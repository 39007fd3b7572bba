"""Case A11 over a real socket: the table of bad input gets a 4xx in words, costs no memory, and harms nobody."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rig import QUICK, request, run, talk

from fake_lane import KEY, FakeLane
from mofang.surface.protocols.oip.rest import OipRest
from mofang.surface.server.exchange import Direct
from mofang.surface.server.listener import HttpServer

PATH = "/v2/models/digits/infer"
GOOD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def body(old: str = "", new: str = "") -> bytes:
    return json.dumps(GOOD).replace(old, new).encode()


def infer(content: bytes, *headers: str) -> bytes:
    return request(PATH, content, f"Authorization: {KEY}", *headers)


CHUNKED = "Transfer-Encoding: chunked"
TABLE: dict[str, tuple[bytes, int]] = {
    "no length": (request(PATH, None, f"Authorization: {KEY}", method="POST") + body(), 400),
    "a length too long": (infer(body(), "Content-Length: 5000"), 408),
    "a length too short": (infer(body(), "Content-Length: 50"), 400),
    "70,000 chunks": (infer(b"", CHUNKED) + b"1\r\n \r\n" * 70_000 + b"0\r\n\r\n", 413),
    "gzip 1000:1": (infer(gzip.compress(b" " * (200 << 20)), "Content-Encoding: gzip"), 413),
    "a header of 1 MiB": (infer(body(), "X: " + "a" * (1 << 20)), 431),
    "JSON 10,000 deep": (infer(body("[1, 2, 3, 4]", "[" * 10_000 + "]" * 10_000)), 400),
    "a number of a million digits": (infer(body("4]}", "9" * 1_000_000 + "]}")), 400),
    "NaN": (infer(body("4]}", "NaN]}")), 400),
    "a negative dimension": (infer(body("[1, 4]", "[-1, 4]")), 400),
    "a dimension of 2^63": (infer(body("[1, 4]", f"[{2**63}, 4]")), 400),
    "a product over 2^63": (infer(body("[1, 4]", f"[{2**31 - 1}, {2**31 - 1}, 4]")), 400),
    "duplicate names": (infer(json.dumps({"inputs": GOOD["inputs"] * 2}).encode()), 400),
    "a wrong name": (infer(body('"x"', '"z"')), 400),
    "a wrong datatype": (infer(body("FP32", "INT32")), 400),
    "a wrong shape": (infer(body("[1, 4]", "[4]")), 400),
    "a wrong count": (infer(body("[1, 4]", "[2, 4]")), 400),
    "an unknown model": (infer(body()).replace(b"/digits/", b"/none/"), 404),
    "an unknown key": (infer(body()).replace(b"Bearer good", b"Bearer evil"), 401),
}


def resident_kib() -> int:
    """Return how much memory this process holds now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


@asynccontextmanager
async def gateway() -> AsyncIterator[int]:
    answers = Direct(OipRest(FakeLane()).start)  # as in the gateway
    server = HttpServer(lambda head: answers, replace(QUICK, body_seconds=1.0))
    sock = socket.create_server(("127.0.0.1", 0))
    await server.serve(sock)
    try:
        yield sock.getsockname()[1]
    finally:
        await server.close()


def test_the_table() -> None:
    async def test() -> None:
        async with gateway() as port:
            assert (await talk(port, infer(body()))).startswith(b"HTTP/1.1 200")
            before = resident_kib()
            for name, (text, status) in TABLE.items():
                head, _, content = (await talk(port, text)).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % status), name
                assert b"x-request-id: req_" in head, name
                document = json.loads(content)
                assert document["code"], name
                assert 0 < len(document["error"]) < 500, name
                assert (await talk(port, infer(body()))).startswith(b"HTTP/1.1 200"), name
            assert resident_kib() - before < 50 << 10

    run(test)
