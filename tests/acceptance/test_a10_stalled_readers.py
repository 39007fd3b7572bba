"""A10: two hundred readers of streams who read nothing: memory is bounded, they are cut, others are undisturbed.

The model is scripted, so that two hundred streams are computed side by side; gateway, worker's socket, and the HTTP
connections are the real ones.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import wait_until

READERS = 200
TOKENS = 1500
STORY = {"model": "smol", "messages": [{"role": "user", "content": "«" + "x" * TOKENS + "»"}], "stream": True}
SETTINGS = {"engine": {"slots": READERS + 2, "context": 2 * TOKENS + 100}, "limits": {"write_seconds": 1.0}}


@pytest.fixture
def server() -> Iterator[tuple[int, str, int]]:
    """Port, key and process id of a server that waits a second for a peer that does not read."""
    program, pipe = Path(__file__).parents[1] / "chat_server.py", subprocess.PIPE
    command = [sys.executable, str(program), json.dumps(SETTINGS)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        assert running.stdout is not None
        port, key = running.stdout.readline().split()
        yield int(port), key, running.pid
        running.communicate("", timeout=20)


def test_a10_stalled_readers_are_bounded_and_cut(server: tuple[int, str, int]) -> None:
    port, key, pid = server
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=90) as client:
        assert client.post("/v1/chat/completions", json=STORY).text.endswith("data: [DONE]\n\n")  # everything is warm
        before, most = _resident_bytes(pid), 0
        stalled = [_ask(port, key) for _ in range(READERS)]
        try:
            whole = client.post("/v1/chat/completions", json=STORY)  # somebody who reads
            assert len("".join(re.findall(r'"content":"(x+)"', whole.text))) == TOKENS
            assert whole.text.endswith("data: [DONE]\n\n")

            def cut() -> bool:
                nonlocal most
                most = max(most, _resident_bytes(pid))
                return int(_counts(client)["connections"]) == 1

            wait_until(cut, 60, "the stalled readers to be cut")
            assert most - before <= 50 << 20
            counts = _counts(client)
            assert counts["streams"] == 0
            tokens = counts["output_tokens"][1:]
            assert len(tokens) == READERS + 1  # every one of them is on record, with what was handed to its connection
            assert all(0 < each <= TOKENS for each in tokens)
            assert sum(each < TOKENS for each in tokens) > READERS / 2  # they were cut on the way, and pay for no more
            assert all(b"[DONE]" not in _rest(wire) for wire in stalled[:5])
        finally:
            for wire in stalled:
                wire.close()


def _ask(port: int, key: str) -> socket.socket:
    """Ask for a stream over a socket that takes next to nothing, and read nothing."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    wire.connect(("127.0.0.1", port))
    content = json.dumps(STORY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    wire.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return wire


def _rest(wire: socket.socket) -> bytes:
    """Read what the kernel still has."""
    wire.settimeout(30)
    said = b""
    try:
        while piece := wire.recv(1 << 16):
            said += piece
    except ConnectionResetError:
        pass
    return said


def _counts(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/counts").json()
    return found


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
