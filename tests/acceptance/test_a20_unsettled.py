"""A20: a server told to stop with ten thousand answers not yet in the ledger loses none of them."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from asking import connect
from nets import scaled

from mofang.base.storage.database import Database
from mofang.sell.meter.store import UsageStore
from servers import Server

PIPELINED = 100
ROUNDS = 100
BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}).encode()


def test_ten_thousand_unsettled_answers_survive_sigterm(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path / "one", 1))
    controller = server.process("controller").pid
    os.kill(controller, signal.SIGSTOP)  # nothing is folded from here on
    answered = set(_ask(server, server.key))
    assert len(answered) == PIPELINED * ROUNDS
    os.kill(controller, signal.SIGCONT)
    assert server.terminate() == 0
    assert list((server.data / "journal").glob("*.journal")) == []
    database = Database(f"sqlite:///{server.data / 'mofang.db'}")
    ledger = UsageStore(database)
    billed, after = set[str](), 0
    while True:
        page = ledger.events(after=after, limit=10_000)
        billed |= {event.request_id for event in page.items if event.meter == "requests"}
        if page.next is None:
            break
        after = page.next
    database.close()
    assert answered == billed


def _ask(server: Server, key: str) -> Iterator[str]:
    """Ask over one connection, many requests in one write; yield the id of every answer."""
    head = f"POST /v2/models/scale/infer HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {key}\r\n"
    request = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
    with connect(server) as connection:
        received = b""
        for _ in range(ROUNDS):
            connection.sendall(request * PIPELINED)
            for _ in range(PIPELINED):
                request_id, received = _answer(connection, received)
                yield request_id


def _answer(connection: socket.socket, received: bytes) -> tuple[str, bytes]:
    """Read one whole answer; return its request id and what came after it."""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1 << 16)
    head = received[:end].decode("ascii").lower()
    assert head.startswith("http/1.1 200"), head
    length = re.search(r"content-length: (\d+)", head)
    request_id = re.search(r"x-request-id: (\S+)", head)
    assert length is not None
    assert request_id is not None
    whole = end + 4 + int(length[1])
    while len(received) < whole:
        received += connection.recv(1 << 16)
    return request_id[1], received[whole:]
