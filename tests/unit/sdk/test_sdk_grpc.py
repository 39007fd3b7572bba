"""Predictions over gRPC, against the platform's own gRPC server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal

from fake_lane import FakeLane
from mofang import Client
from mofang.base.domain.errors import (
    DeadlineExceeded,
    EndpointNotFound,
    Internal,
    Overloaded,
    ServerNotRunning,
    TensorShape,
    UnknownKey,
)
from mofang.surface.protocols.grpc.server import serve

ROW = np.ones((1, 4), np.float32)


@contextmanager
def connected(lane: FakeLane, key: str = "good") -> Iterator[Client]:
    with start_blocking_portal() as portal:
        start = partial(serve, lane, "127.0.0.1:0", reuse_port=False)
        server = portal.call(start)
        try:
            with Client("http://127.0.0.1:1", key, grpc=f"127.0.0.1:{server.port}") as client:
                yield client
        finally:
            portal.call(server.stop, 0)


def test_tensors_go_and_come_back_and_the_answer_names_what_made_it() -> None:
    inputs = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "words": np.array([b"a", "模坊".encode()], dtype=object),
        "flag": np.array([True]),
    }
    with connected(FakeLane()) as client:
        answer = client.serve.predict("echo", inputs, protocol="grpc", version="3")
    for name, array in inputs.items():
        np.testing.assert_array_equal(answer.outputs[name], array)
        assert answer.outputs[name].dtype == array.dtype
    assert (answer.endpoint, answer.version, answer.revision, answer.digest) == ("echo", 3, 7, "sha256:abc")
    assert answer.request_id.startswith("req_")


def test_refusals_are_the_errors_of_the_server() -> None:
    with connected(FakeLane()) as client:
        with pytest.raises(TensorShape, match=r"^input 'x'") as shape:
            client.serve.predict("digits", {"x": ROW[:, :3]}, protocol="grpc")
        assert shape.value.hint == "`GET /v2/models/ENDPOINT` tells the signature"
        with pytest.raises(EndpointNotFound):
            client.serve.predict("nothing", {"x": ROW}, protocol="grpc")
        with pytest.raises(Overloaded) as busy:
            client.serve.predict("busy", {"x": ROW}, protocol="grpc")
        assert busy.value.retry_after_seconds
        with pytest.raises(DeadlineExceeded):
            client.serve.predict("slow", {"x": ROW}, protocol="grpc", timeout_seconds=0.2)
    with connected(FakeLane(), "bad") as client, pytest.raises(UnknownKey):
        client.serve.predict("digits", {"x": ROW}, protocol="grpc")


def test_nothing_listens_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Client(grpc=address) as client, pytest.raises(ServerNotRunning, match=address):
            client.serve.predict("digits", {"x": ROW}, protocol="grpc")


def test_a_server_that_is_none_of_ours() -> None:
    def refuse(request: bytes, context: Any) -> None:
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "go away")

    handler = grpc.method_handlers_generic_handler(
        "inference.GRPCInferenceService", {"ModelInfer": grpc.unary_unary_rpc_method_handler(refuse)}
    )
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[handler])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with Client(grpc=f"127.0.0.1:{port}") as client, pytest.raises(Internal, match="PERMISSION_DENIED: go away"):
            client.serve.predict("digits", {"x": ROW}, protocol="grpc")
        server.stop(None).wait()
