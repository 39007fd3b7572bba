"""tritonclient's asynchronous clients, unmodified: all that they can ask, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http
from asking import FOR_EVER, ROW, cpu_seconds, in_flight, inputs
from nets import scaled, slow
from tritonclient.utils import InferenceServerException
from tritons import Asked, run, tensors

from servers import Server, wait_until


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    models = tmp_path_factory.mktemp("models")
    server.serve("third", scaled(models / "third", 1 / 3))
    server.serve("slow", slow(models / "slow"))
    return server


# --- what a client may ask besides ---------------------------------------------------------------------------------

SERVED: dict[str, tuple[Asked, Callable[[Any], bool]]] = {
    "is_server_live": (lambda c, h: c.is_server_live(headers=h), bool),
    "is_server_ready": (lambda c, h: c.is_server_ready(headers=h), bool),
    "is_model_ready": (lambda c, h: c.is_model_ready("third", headers=h), bool),
    "is_model_ready, version": (lambda c, h: c.is_model_ready("third", "1", headers=h), bool),
    "is_model_ready, none": (lambda c, h: c.is_model_ready("none", headers=h), lambda ready: not ready),
    "get_server_metadata": (lambda c, h: c.get_server_metadata(headers=h), lambda told: "mofang" in str(told)),
    "get_model_metadata": (lambda c, h: c.get_model_metadata("third", headers=h), lambda told: "FP32" in str(told)),
    "get_model_repository_index": (lambda c, h: c.get_model_repository_index(headers=h), lambda i: "slow" in str(i)),
    "get_inference_statistics": (
        lambda c, h: c.get_inference_statistics("third", headers=h),
        lambda told: "inference_count" in str(told) or "inference_stats" in str(told),
    ),
}
REFUSED: dict[str, tuple[Asked, str]] = {
    "load_model": (lambda c, h: c.load_model("third", headers=h), "deploying"),
    "unload_model": (lambda c, h: c.unload_model("third", headers=h), "deploying"),
    "get_model_config": (lambda c, h: c.get_model_config("third", headers=h), ""),
    "get_trace_settings": (lambda c, h: c.get_trace_settings(headers=h), ""),
    "update_trace_settings": (lambda c, h: c.update_trace_settings("third", {}, headers=h), ""),
    "get_log_settings": (lambda c, h: c.get_log_settings(headers=h), ""),
    "get_system_shared_memory_status": (lambda c, h: c.get_system_shared_memory_status(headers=h), ""),
    "register_system_shared_memory": (lambda c, h: c.register_system_shared_memory("r", "/r", 8, headers=h), ""),
    "unregister_system_shared_memory": (lambda c, h: c.unregister_system_shared_memory("r", headers=h), ""),
    "get_cuda_shared_memory_status": (lambda c, h: c.get_cuda_shared_memory_status(headers=h), ""),
    "register_cuda_shared_memory": (lambda c, h: c.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 8, headers=h), ""),
    "unregister_cuda_shared_memory": (lambda c, h: c.unregister_cuda_shared_memory("r", headers=h), ""),
}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", SERVED)
def test_what_is_served_is_answered(serving: Server, protocol: str, name: str) -> None:
    ask, right = SERVED[name]
    assert right(run(serving, protocol, ask))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_served_is_refused_in_words(serving: Server, protocol: str, name: str) -> None:
    ask, word = REFUSED[name]
    with pytest.raises(InferenceServerException) as caught:
        run(serving, protocol, ask)
    assert word in caught.value.message()
    assert len(caught.value.message()) > 10
    status = str(caught.value.status())
    assert not status.startswith("5"), status
    assert not status.endswith(("UNKNOWN", "INTERNAL", "UNAVAILABLE")), status


# --- going away ----------------------------------------------------------------------------------------------------


async def _infer(client: Any, headers: dict[str, str]) -> None:
    await client.infer("slow", tensors(triton_grpc, x=ROW, steps=np.array([FOR_EVER])), headers=headers)


async def _infer_over_http(client: Any, headers: dict[str, str]) -> None:
    await client.infer("slow", tensors(triton_http, x=ROW, steps=np.array([FOR_EVER])), headers=headers)


async def _stream(client: Any, headers: dict[str, str]) -> None:
    async def asked() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "slow", "inputs": tensors(triton_grpc, x=ROW, steps=np.array([FOR_EVER]))}
        await asyncio.Event().wait()

    answers = client.stream_infer(asked(), headers=headers)
    try:
        await anext(answers)
    finally:
        answers.cancel()


@pytest.mark.parametrize(("protocol", "ask"), [("grpc", _infer), ("grpc", _stream), ("http", _infer_over_http)])
def test_a_task_that_is_cancelled_stops_the_model(serving: Server, protocol: str, ask: Asked) -> None:
    worker = serving.process("replica/slow/")
    serving.client.serve.predict("slow", inputs(1), timeout_seconds=20)
    used = cpu_seconds(worker)

    async def scenario(client: Any, headers: dict[str, str]) -> None:
        task = asyncio.ensure_future(ask(client, headers))
        until = time.monotonic() + 20
        while cpu_seconds(worker) < used + 0.1:
            assert time.monotonic() < until, "the model does not compute"
            await asyncio.sleep(0.02)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(serving, protocol, scenario)
    began = time.monotonic()
    serving.client.serve.predict("slow", inputs(1), timeout_seconds=20)
    assert time.monotonic() - began < 2.0
    wait_until(lambda: in_flight(serving) == 0, 5, "the call to be gone from the gateway")
