"""An answer has the same bits over every wire: REST in JSON and binary, gRPC, streams, our client and Triton's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as sync_grpc
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http as sync_http
import tritonclient.http.aio as triton_http
from nets import scaled
from numpy.typing import NDArray
from tritons import key, run, tensors, web

from mofang import Client
from servers import Server

Floats = NDArray[np.float32]
FACTOR = np.float32(1 / 3)  # no product with it is exact


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("third", scaled(tmp_path_factory.mktemp("third"), float(FACTOR)))
    return server


def by_sdk(server: Server, x: Floats, protocol: Any) -> Floats:
    with Client(server.url, server.key, grpc=server.grpc) as client:
        found = client.serve.predict("third", {"x": x}, protocol=protocol).outputs["y"]
    return found.astype(np.float32, casting="no")


def by_triton_http(server: Server, x: Floats, *, binary: bool, packed: str | None = None) -> Floats:
    outputs = [sync_http.InferRequestedOutput("y", binary_data=binary)]
    with sync_http.InferenceServerClient(web(server)) as client:
        return client.infer(
            "third", tensors(sync_http, binary, x=x), outputs=outputs, headers=key(server),
            request_compression_algorithm=packed, response_compression_algorithm=packed,
        ).as_numpy("y")  # fmt: skip


def by_triton_grpc(server: Server, x: Floats, **options: Any) -> Floats:
    with sync_grpc.InferenceServerClient(server.grpc) as client:
        return client.infer("third", tensors(sync_grpc, x=x), headers=key(server), **options).as_numpy("y")


def by_triton_aio(server: Server, x: Floats, *, protocol: str, binary: bool | None = None) -> Floats:
    module = triton_http if protocol == "http" else triton_grpc
    asked = tensors(module, binary, x=x)
    return run(server, protocol, lambda c, h: c.infer("third", asked, headers=h)).as_numpy("y")


def by_triton_stream(server: Server, x: Floats) -> Floats:
    async def ask(client: Any, headers: dict[str, str]) -> Floats:
        async def asked() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": "third", "inputs": tensors(triton_grpc, x=x)}

        async for result, error in client.stream_infer(asked(), headers=headers):
            assert error is None
            return result.as_numpy("y")
        raise AssertionError("the stream was not answered")

    return run(server, "grpc", ask)


def by_hand(server: Server, x: Floats) -> Floats:
    tensor = {"name": "x", "datatype": "FP32", "shape": [*x.shape], "data": x.tolist()}
    answer = httpx.post(_infer_url(server), content=json.dumps({"inputs": [tensor]}), headers=key(server))
    [output] = answer.json()["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def by_bytes_alone(server: Server, x: Floats) -> Floats:
    headers = {**key(server), "Inference-Header-Content-Length": "0"}
    answer = httpx.post(_infer_url(server), content=x.tobytes(), headers=headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    [output] = json.loads(answer.content[:length])["outputs"]
    return np.frombuffer(answer.content[length:], np.float32).reshape(output["shape"])


def by_bytes_in_chunks(server: Server, x: Floats) -> Floats:
    def pieces() -> Iterator[bytes]:
        content = x.tobytes()
        for at in range(0, len(content), 7):
            yield content[at : at + 7]

    headers = {**key(server), "Inference-Header-Content-Length": "0"}
    answer = httpx.post(_infer_url(server), content=pieces(), headers=headers)
    return np.frombuffer(answer.content[-x.nbytes :], np.float32).reshape(x.shape)


def _infer_url(server: Server) -> str:
    return f"{server.url}/v2/models/third/infer"


WIRES: dict[str, Callable[[Server, Floats], Floats]] = {
    "SDK, REST": lambda server, x: by_sdk(server, x, "rest"),
    "SDK, gRPC": lambda server, x: by_sdk(server, x, "grpc"),
    "JSON by hand": by_hand,
    "bytes alone": by_bytes_alone,
    "bytes alone, in chunks": by_bytes_in_chunks,
    "Triton, HTTP, JSON": lambda server, x: by_triton_http(server, x, binary=False),
    "Triton, HTTP, binary": lambda server, x: by_triton_http(server, x, binary=True),
    "Triton, HTTP, gzip": lambda server, x: by_triton_http(server, x, binary=True, packed="gzip"),
    "Triton, HTTP, deflate": lambda server, x: by_triton_http(server, x, binary=True, packed="deflate"),
    "Triton, HTTP, asynchronous, JSON": lambda server, x: by_triton_aio(server, x, protocol="http", binary=False),
    "Triton, HTTP, asynchronous, binary": lambda server, x: by_triton_aio(server, x, protocol="http", binary=True),
    "Triton, gRPC": by_triton_grpc,
    "Triton, gRPC, gzip": lambda server, x: by_triton_grpc(server, x, compression_algorithm="gzip"),
    "Triton, gRPC, asynchronous": lambda server, x: by_triton_aio(server, x, protocol="grpc"),
    "Triton, gRPC, a stream": by_triton_stream,
}


@pytest.mark.parametrize("wire", WIRES)
def test_every_wire_gives_the_same_bits(serving: Server, wire: str) -> None:
    chance = np.random.default_rng(7)
    x = chance.integers(0, 2**32, 400, np.uint32).view(np.float32)
    x = x[np.isfinite(x)][:320].reshape(80, 4)  # of every size, subnormal ones among them
    x[0] = 0.0, -0.0, np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    found = WIRES[wire](serving, x)
    assert found.dtype == np.float32
    assert found.tobytes() == (x * FACTOR).tobytes()
