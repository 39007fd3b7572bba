"""Requests written by hand, for tests of what a client may do to a server: go away, dawdle, come in crowds."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from mofang.surface.sdk.operate import Process
from mofang.surface.wire import inference_pb2 as pb
from servers import Server

INFER = "/inference.GRPCInferenceService/ModelInfer"
FOR_EVER = 1_000_000_000  # steps of the slow model: days
ROW = np.ones((1, 4), np.float32)


def address(server: Server, protocol: str = "http") -> tuple[str, int]:
    """Return host and port of HTTP, or of gRPC."""
    where = server.grpc if protocol == "grpc" else server.url.removeprefix("http://")
    host, _, port = where.rpartition(":")
    return host, int(port)


def connect(server: Server, timeout: float = 30.0) -> socket.socket:
    """Open a connection to the HTTP port."""
    return socket.create_connection(address(server), timeout)


def slow_request(key: str, steps: int, *fields: str, endpoint: str = "slow") -> bytes:
    """Return an HTTP request that has the slow model compute ``steps`` rounds."""
    body = json.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]},
                {"name": "steps", "datatype": "INT64", "shape": [1], "data": [steps]},
            ]
        }
    )
    head = [
        f"POST /v2/models/{endpoint}/infer HTTP/1.1",
        "host: here",
        f"authorization: Bearer {key}",
        f"content-length: {len(body)}",
        *fields,
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def slow_message(steps: int, endpoint: str = "slow") -> Any:
    """Return the gRPC message that asks the same."""
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 1, 1, 1]}},
        {"name": "steps", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [steps]}},
    ]
    return pb.ModelInferRequest(model_name=endpoint, inputs=inputs)


def inputs(steps: int) -> dict[str, Any]:
    """Return the same for the SDK."""
    return {"x": ROW, "steps": np.array([steps])}


def cpu_seconds(process: Process) -> float:
    """Return the processor time a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_flight(server: Server) -> int:
    """Return how many requests the first gateway has taken and not answered."""
    text = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text
    return int(text.partition('mofang_serve_in_flight{gateway="gateway-0"} ')[2].split()[0])
