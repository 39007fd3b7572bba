"""A08, A10, A21 for streams of a real model: cut, stalled and hostile clients."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from servers import Server, wait_until

STORY = {
    "messages": [{"role": "user", "content": "Tell me a very long story."}],
    "model": "smol",
    "stream": True,
    "temperature": 0,
}


def usage_of(server: Server, request: str) -> dict[str, int]:
    """Return the quantities of one request, as soon as they are in the ledger."""
    found: dict[str, int] = {}

    def there() -> bool:
        found.update({e.meter: e.quantity for e in server.client.meter.events(request_id=request)})
        return bool(found)

    wait_until(there, 20, f"the usage of {request}")
    return found


def open_stream(server: Server, body: dict[str, Any], buffer_bytes: int = 0) -> socket.socket:
    """Ask for a stream over a socket of our own, and read nothing."""
    host, port = server.url.removeprefix("http://").split(":")
    wire = socket.socket()
    if buffer_bytes:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    wire.connect((host, int(port)))
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
    wire.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return wire


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def idle(server: Server) -> None:
    """Wait until the worker computes nothing more."""
    pid = server.process("replica/smol/").pid
    assert pid is not None

    def still() -> bool:
        before = cpu_seconds(pid)
        time.sleep(0.5)
        return cpu_seconds(pid) - before < 0.1

    wait_until(still, 60, "the worker to be idle")


def test_a08_a21_a_stream_that_is_cut_stops_and_pays_for_what_was_sent(smol: Server) -> None:
    headers = {"authorization": f"Bearer {smol.key}"}
    pieces = 0
    with httpx.stream("POST", f"{smol.url}/v1/chat/completions", json=STORY, headers=headers, timeout=60) as answer:
        request = answer.headers["x-request-id"]
        for line in answer.iter_lines():
            pieces += '"content":"' in line
            if pieces > 20:
                break
    idle(smol)
    used = usage_of(smol, request)
    assert 20 <= used["output_tokens"] <= 20 + 64  # what was on its way when we left
    assert used["input_tokens"] > 0
    assert used["compute_us"] > 0


@pytest.mark.timeout(600)
def test_a10_stalled_readers_are_bounded_and_others_undisturbed(smol: Server) -> None:
    gateway = smol.process("gateway-").pid
    before = _resident_bytes(gateway)
    stalled = [open_stream(smol, {**STORY, "max_tokens": 60}, buffer_bytes=2048) for _ in range(40)]
    try:
        headers = {"authorization": f"Bearer {smol.key}"}
        body = {**STORY, "stream": False, "max_tokens": 4}
        answer = httpx.post(f"{smol.url}/v1/chat/completions", json=body, headers=headers, timeout=500)
        assert answer.status_code == 200
        assert _resident_bytes(gateway) - before < 50 << 20
    finally:
        for wire in stalled:
            wire.close()
    idle(smol)


HOSTILE: list[dict[str, Any]] = [
    {"max_tokens": -5},
    {"messages": [{"role": "user", "content": "x" * (10 << 20)}]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "type": "string", "pattern": "(a{1,1000}){1,1000}"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {
        "enum": [f"word{number}" for number in range(5000)]}}}},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
    {"stop": ["x"] * 1000},
    {"n": 10**9},
]  # fmt: skip


@pytest.fixture
def speaking(smol: Server) -> Iterator[Iterator[str]]:
    """A stream of somebody else that goes on meanwhile."""
    headers = {"authorization": f"Bearer {smol.key}"}
    body = {**STORY, "max_tokens": 300}
    with httpx.stream("POST", f"{smol.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_hostile_requests_are_refused_while_others_go_on(smol: Server, speaking: Iterator[str]) -> None:
    headers = {"authorization": f"Bearer {smol.key}"}
    worker = smol.process("replica/smol/").pid
    before = _resident_bytes(worker)
    with httpx.Client(headers=headers, timeout=30) as client:
        for changes in HOSTILE:
            answer = client.post(f"{smol.url}/v1/chat/completions", json={**STORY, **changes, "stream": False})
            assert 400 <= answer.status_code < 500, (str(changes)[:200], answer.text)
        answer = client.post(f"{smol.url}/v1/chat/completions", content=b'{"model": "\xff\xfe"}')
        assert answer.status_code == 400
    assert _resident_bytes(worker) - before < 200 << 20
    assert smol.process("replica/smol/").pid == worker
    rest = list(speaking)
    assert rest[-2:] == ["data: [DONE]", ""]
    assert not any('"error"' in line for line in rest)


def test_many_schemas_leave_no_trace(smol: Server) -> None:
    headers = {"authorization": f"Bearer {smol.key}"}
    worker = smol.process("replica/smol/").pid
    sizes = []
    with httpx.Client(headers=headers, timeout=60) as client:
        for number in range(150):
            schema = {
                "type": "object",
                "properties": {f"key{number}": {"type": "integer"}},
                "required": [f"key{number}"],
            }
            wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = {**STORY, "stream": False, "max_tokens": 1, "response_format": wanted}
            assert client.post(f"{smol.url}/v1/chat/completions", json=body).status_code == 200
            sizes.append(_resident_bytes(worker))
    assert sizes[-1] - sizes[50] < 100 << 20


def _resident_bytes(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
