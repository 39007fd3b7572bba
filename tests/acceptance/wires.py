"""Clients that speak in bytes, so that they can say what no library would."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from servers import Server


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, with its sentence and hint checked on the way."""
        document = self.json
        sentence = document.get("error") or document.get("detail")
        assert 0 < len(sentence) < 600, document
        assert document["hint"], document
        assert self.headers["x-request-id"].startswith("req_"), self.headers
        return str(document["code"])


def request(path: str, body: bytes | None = None, *headers: str, method: str = "") -> bytes:
    """Return the bytes of a request on a connection of its own."""
    lines = [f"{method or ('GET' if body is None else 'POST')} {path} HTTP/1.1", "Host: localhost", *headers]
    lines.append("Connection: close")
    named = [line.partition(":")[0].lower() for line in lines]
    if body is not None and not {"content-length", "transfer-encoding"} & set(named):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def send(server: Server, content: bytes) -> socket.socket:
    """Send ``content`` on a new connection, as much of it as the server takes, and return the connection."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    with suppress(BrokenPipeError, ConnectionResetError):  # it has answered already, and reads no more
        connection.sendall(content)
    return connection


def receive(connection: socket.socket) -> Reply:
    """Read until the server closes; return the answer."""
    received = bytearray()
    with connection, suppress(ConnectionResetError):
        while piece := connection.recv(1 << 16):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
    return Reply(int(line.split()[1]) if line else 0, headers, body)


def talk(server: Server, content: bytes) -> Reply:
    """Send ``content`` and return the answer."""
    return receive(send(server, content))


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call over gRPC ended; empty texts if it ended well."""

    status: str
    details: str
    code: str
    request_id: str


def call(
    server: Server,
    method: str,
    message: bytes,
    *metadata: tuple[str, str],
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> Refusal | bytes:
    """Call ``method`` of the inference service with the bytes of a message."""
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 4 << 20)]
    with grpc.insecure_channel(server.grpc, options, compression) as channel:
        ask: Callable[..., bytes] = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            return ask(message, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            return Refusal(
                error.code().name, error.details(), trailing.get("mofang-code", ""), trailing.get("x-request-id", "")
            )


def resident_kib(pid: int) -> int:
    """Return how much memory a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])
