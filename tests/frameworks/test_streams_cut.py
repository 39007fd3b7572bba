"""A08, A10, A21 for streams of a real model: cut, stalled and hostile clients."""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hostile_questions import HOSTILE, soon
from servers import Server, wait_until

SLOTS = {"openvino": 16, "llamacpp": 4}  # where nothing else is said

STORY = {
    "messages": [{"role": "user", "content": "Tell me a very long story."}],
    "model": "smol",
    "stream": True,
    "temperature": 0,
}


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
    used = smol.usage_of(request)
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
    headers = {"authorization": f"Bearer {smol.key}", "content-type": "application/json"}
    worker = smol.process("replica/smol/").pid
    before = _resident_bytes(worker)
    with httpx.Client(headers=headers, timeout=30) as client:
        for name, body in HOSTILE.items():
            began = time.monotonic()
            answer = client.post(f"{smol.url}/v1/chat/completions", content=body)
            taken = time.monotonic() - began
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert taken < soon(), name
    assert _resident_bytes(worker) - before < 200 << 20
    assert smol.process("replica/smol/").pid == worker
    rest = list(speaking)
    assert rest[-2:] == ["data: [DONE]", ""]
    assert not any('"error"' in line for line in rest)


@pytest.mark.timeout(3600)
def test_many_schemas_leave_no_trace(smol: Server) -> None:
    """Each is compiled to a grammar, which the library would keep for ever; ``SCHEMAS=10000`` for the long form."""
    count = int(os.environ.get("SCHEMAS", "600"))  # 256 are kept
    worker = smol.process("replica/smol/").pid

    def ask(number: int) -> int:
        key = f"key{number}"
        schema = {"type": "object", "properties": {key: {"type": "integer"}}, "required": [key]}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {**STORY, "stream": False, "max_tokens": 1, "response_format": wanted}
        while (answer := client.post("/v1/chat/completions", json=body)).status_code == 429:  # come later
            time.sleep(float(answer.headers["retry-after"]))
        assert answer.status_code == 200, answer.text
        return _resident_bytes(worker)

    headers = {"authorization": f"Bearer {smol.key}"}
    with httpx.Client(base_url=smol.url, headers=headers, timeout=120) as client, ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(ask, range(count)))
    assert max(sizes[count // 2 :]) - max(sizes[: count // 2]) < 100 << 20
    assert smol.process("replica/smol/").pid == worker
    _wait_running(smol, 0)
    slots = SLOTS[smol.client.register.get_version("smol").artifact.engine]
    streams = [open_stream(smol, {**STORY, "max_tokens": 1000}) for _ in range(slots)]
    _wait_running(smol, slots)  # none was lost
    for wire in streams:
        wire.close()
    idle(smol)


def _wait_running(server: Server, streams: int) -> None:
    headers = {"authorization": f"Bearer {server.key}"}

    def so_many() -> bool:
        text = httpx.get(f"{server.url}/metrics", headers=headers).text
        told = re.findall(r'^mofang_generate_running{.*endpoint="smol"} (\S+)$', text, re.MULTILINE)
        return max(map(float, told)) == streams

    wait_until(so_many, 60, f"{streams} streams")


def _resident_bytes(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
