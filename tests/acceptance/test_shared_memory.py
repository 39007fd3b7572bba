"""Tensors through shared memory, by Triton's own client, and what strangers and careless clients get."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from nets import scaled
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from servers import Server

X = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("sharing") / "data", "--gateways", "2", environ={"MOFANG_SHARED_MEMORY": "1"}
    )
    server.serve("scale", scaled(tmp_path_factory.mktemp("scale"), 3))
    yield server
    server.close()


@contextmanager
def memory(size: int) -> Iterator[tuple[Any, str]]:
    key = f"mofang-test-{os.getpid()}"
    handle = shm.create_shared_memory_region("test", f"/{key}", size)
    try:
        yield handle, key
    finally:
        shm.destroy_shared_memory_region(handle)


def ask(client: InferenceServerClient, key: dict[str, str], size: int = 16, offset: int = 0) -> Any:
    tensor, wanted = InferInput("x", [1, 4], "FP32"), InferRequestedOutput("y")
    tensor.set_shared_memory("both", size, offset)
    wanted.set_shared_memory("both", 16, 16)
    return client.infer("scale", [tensor], outputs=[wanted], headers=key)


def test_tritons_client_sends_and_receives_tensors_through_shared_memory(sharing: Server) -> None:
    key = {"authorization": f"Bearer {sharing.key}"}
    with InferenceServerClient(sharing.url.removeprefix("http://")) as client, memory(32) as (handle, name):
        shm.set_shared_memory_region(handle, [X])
        client.register_system_shared_memory("both", f"/{name}", 32, headers=key)
        [known] = client.get_system_shared_memory_status(headers=key)
        assert known == {"name": "both", "key": f"/{name}", "offset": 0, "byte_size": 32}
        for _ in range(4):  # whichever gateway it is
            response = ask(client, key).get_response()
            assert response["outputs"][0]["parameters"]["shared_memory_byte_size"] == 16
            assert "data" not in response["outputs"][0]
        got = shm.get_contents_as_numpy(handle, np.float32, [1, 4], 16)
        assert got.tolist() == (3 * X).tolist()
        with pytest.raises(InferenceServerException, match="registered already"):
            client.register_system_shared_memory("both", f"/{name}", 32, headers=key)
        with pytest.raises(InferenceServerException, match="would end at 48"):
            ask(client, key, offset=32)
        client.unregister_system_shared_memory("both", headers=key)
        assert client.get_system_shared_memory_status(headers=key) == []
        with pytest.raises(InferenceServerException, match="'both' is registered"):
            ask(client, key)


def test_a_region_that_is_cut_short_ends_nothing_but_the_request(sharing: Server) -> None:
    key = {"authorization": f"Bearer {sharing.key}"}
    with InferenceServerClient(sharing.url.removeprefix("http://")) as client, memory(32) as (_, name):
        client.register_system_shared_memory("both", name, 32, headers=key)
        os.truncate(Path("/dev/shm") / name, 8)
        with pytest.raises(InferenceServerException, match="shorter than it was"):
            ask(client, key)
        client.unregister_system_shared_memory(headers=key)
    assert sharing.client.serve.predict("scale", {"x": X}).outputs["y"].tolist() == (3 * X).tolist()


@pytest.mark.parametrize("key", ["../etc/passwd", "/../../etc/passwd", "a/b", "", "missing-memory"])
def test_nothing_but_shared_memory_can_be_registered(sharing: Server, key: str) -> None:
    said = httpx.post(
        f"{sharing.url}/v2/systemsharedmemory/region/r/register",
        json={"key": key, "byte_size": 4},
        headers={"authorization": f"Bearer {sharing.key}"},
    )
    assert said.status_code == 400


def test_what_comes_through_a_proxy_or_without_a_key_reaches_no_memory(sharing: Server) -> None:
    url = f"{sharing.url}/v2/systemsharedmemory/status"
    assert httpx.get(url).status_code == 401
    headers = {"authorization": f"Bearer {sharing.key}", "x-forwarded-for": "192.0.2.1"}
    assert httpx.get(url, headers=headers).status_code == 403


def test_it_is_off_unless_the_owner_of_the_machine_says_otherwise(server: Server) -> None:
    headers = {"authorization": f"Bearer {server.key}"}
    said = httpx.get(f"{server.url}/v2/systemsharedmemory/status", headers=headers)
    assert (said.status_code, said.json()["code"]) == (400, "request.malformed")
    assert "system_shared_memory" not in httpx.get(f"{server.url}/v2", headers=headers).json()["extensions"]
