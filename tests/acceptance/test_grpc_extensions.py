"""Streams, statistics, health and reflection on a real server, and that none of them holds up its end."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from asking import ROW
from nets import scaled
from tritonclient.grpc import InferenceServerClient, InferInput

from mofang.surface.wire import reflection_pb2
from servers import Server


@pytest.fixture(scope="module")
def scale(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("scale"), 3))
    return server


def test_a_stream_of_tritons_client_is_answered_in_order(scale: Server) -> None:
    answers: list[float] = []
    enough = threading.Event()

    def hear(result: object, error: object) -> None:
        assert error is None, error
        answers.append(result.as_numpy("y")[0, 0])  # type: ignore[attr-defined]
        if len(answers) == 200:
            enough.set()

    with InferenceServerClient(scale.grpc) as client:
        client.start_stream(hear, headers={"authorization": f"Bearer {scale.key}"})
        for number in range(200):
            tensor = InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(np.full((1, 4), number, np.float32))
            client.async_stream_infer("scale", [tensor])
        assert enough.wait(20)
        client.stop_stream()
    assert answers == [3 * number for number in range(200)]


def test_statistics_are_the_same_over_both_protocols_and_count_every_answer(scale: Server) -> None:
    key = {"authorization": f"Bearer {scale.key}"}

    def rest() -> dict[str, object]:
        (entry,) = httpx.get(f"{scale.url}/v2/models/scale/stats", headers=key).json()["model_stats"]
        return entry

    before = rest()
    for rows in (1, 2, 3):
        scale.client.serve.predict("scale", {"x": np.repeat(ROW, rows, axis=0)})
    after = rest()
    assert after["inference_count"] - before["inference_count"] == 6  # type: ignore[operator]
    assert after["execution_count"] - before["execution_count"] == 3  # type: ignore[operator]
    with InferenceServerClient(scale.grpc) as client:
        (entry,) = client.get_inference_statistics("scale", headers=key).model_stats
    assert (entry.inference_count, entry.execution_count) == (after["inference_count"], after["execution_count"])
    success = after["inference_stats"]["success"]  # type: ignore[index]
    assert (entry.inference_stats.success.count, entry.inference_stats.success.ns) == tuple(success.values())


def test_reflection_lists_the_services(scale: Server) -> None:
    with grpc.insecure_channel(scale.grpc) as channel:
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        request = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
        (data,) = call(iter([request]), metadata=[("authorization", f"Bearer {scale.key}")])
        services = reflection_pb2.ServerReflectionResponse.FromString(data).list_services_response.service
        assert "inference.GRPCInferenceService" in {service.name for service in services}


def test_open_streams_and_watchers_do_not_hold_up_the_end(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    ended = threading.Event()

    def silent() -> Iterator[bytes]:
        ended.wait(60)
        yield from ()

    with grpc.insecure_channel(server.grpc) as channel:
        metadata = [("authorization", f"Bearer {server.key}")]
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(silent(), metadata=metadata)
        assert next(watch) == b"\x08\x01"
        assert dict(stream.initial_metadata())["x-request-id"].startswith("req_")
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 10.0
        assert list(watch) == [b"\x08\x02"]
        assert list(stream) == []
        ended.set()
