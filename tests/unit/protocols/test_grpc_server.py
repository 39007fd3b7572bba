"""The gRPC server on a real port, asked by tritonclient and by hand."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from fake_lane import HOLDER, KEY, FakeLane
from mofang import __version__
from mofang.base.domain.errors import PortInUse
from mofang.base.domain.inference import Answer
from mofang.surface.protocols.grpc.http2.house import Limits
from mofang.surface.protocols.grpc.server import GrpcServer, serve
from mofang.surface.wire import inference_pb2 as pb

AUTH = {"authorization": KEY}
DIGITS = pb.ModelInferRequest(
    model_name="digits",
    id="mine",
    inputs=[{"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [1, 2, 3, 4]}}],
).SerializeToString()


class Rig:
    def __init__(self) -> None:
        self.lane = FakeLane()
        self.address = ""
        self.server: GrpcServer

    async def call(
        self, method: str, data: bytes, *, key: str = KEY, timeout: float | None = None
    ) -> tuple[bytes, dict]:
        metadata = [("authorization", key)] if key else []
        async with grpc.aio.insecure_channel(self.address) as channel:
            call = channel.unary_unary("/" + method)(data, metadata=metadata, timeout=timeout)
            return await call, dict(await call.trailing_metadata())


@asynccontextmanager
async def running() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.server = await serve(rig.lane, "127.0.0.1:0", limits=Limits(message_bytes=1 << 20))
    rig.address = f"127.0.0.1:{rig.server.port}"
    try:
        yield rig
    finally:
        await rig.server.stop(0)


def run(test: Callable[[Rig], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20), running() as rig:
            await test(rig)

    asyncio.run(bounded())


def test_triton_client_works_unmodified() -> None:
    async def test(rig: Rig) -> None:
        async with InferenceServerClient(rig.address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("digits", "3", headers=AUTH)
            assert not await client.is_model_ready("broken", headers=AUTH)
            assert not await client.is_model_ready("none", headers=AUTH)
            server = await client.get_server_metadata(headers=AUTH)
            assert (server.name, server.version) == ("mofang", __version__)
            model = await client.get_model_metadata("digits", headers=AUTH)
            assert (model.name, list(model.versions), list(model.inputs[0].shape)) == ("digits", ["3"], [-1, 4])
            index = await client.get_model_repository_index(headers=AUTH)
            assert {entry.name: entry.state for entry in index.models}["broken"] == "UNAVAILABLE"
            tensor = InferInput("x", [2, 4], "FP32")
            tensor.set_data_from_numpy(np.arange(8, dtype=np.float32).reshape(2, 4))
            result = await client.infer("digits", [tensor], request_id="mine", headers=AUTH)
            assert result.as_numpy("y").tolist() == [[0, 2], [8, 10]]
            assert result.get_response().id == "mine"

    run(test)


def test_statistics_come_as_triton_clients_read_them() -> None:
    async def test(rig: Rig) -> None:
        revision = rig.lane.route(HOLDER, "digits").revision
        for _ in range(2):
            rig.lane.counted.entry(revision).computed(3, Answer({}, compute_us=50, queue_us=7, batch_rows=6))
        rig.lane.counted.entry(revision).ended(True, 0.5)
        rig.lane.counted.entry(revision).ended(False, 0.25)
        async with InferenceServerClient(rig.address) as client:
            found = await client.get_inference_statistics("digits", headers=AUTH)
            (stats,) = found.model_stats
            assert (stats.name, stats.version) == ("digits", "3")
            assert (stats.inference_count, stats.execution_count) == (6, 1)
            assert abs(stats.last_inference / 1000 - time.time()) < 60
            times = stats.inference_stats
            assert (times.success.count, times.success.ns) == (1, 500_000_000)
            assert (times.fail.count, times.fail.ns) == (1, 250_000_000)
            assert (times.queue.count, times.queue.ns) == (2, 14_000)
            assert (times.compute_infer.count, times.compute_infer.ns) == (2, 100_000)
            assert not times.HasField("compute_input")
            (batch,) = stats.batch_stats
            assert (batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns) == (6, 1, 100_000)
            everything = await client.get_inference_statistics(headers=AUTH)
            assert {each.name for each in everything.model_stats} == set(rig.lane.models)

    run(test)


@pytest.mark.parametrize("method", ["load_model", "unload_model"])
def test_loading_is_refused_with_the_command_that_does_it(method: str) -> None:
    async def test(rig: Rig) -> None:
        async with InferenceServerClient(rig.address) as client:
            with pytest.raises(InferenceServerException, match="mofang deploy") as caught:
                await getattr(client, method)("digits", headers=AUTH)
            assert caught.value.status() == "StatusCode.FAILED_PRECONDITION"

    run(test)


def test_outputs_keep_the_order_asked() -> None:
    async def test(rig: Rig) -> None:
        async with InferenceServerClient(rig.address) as client:
            inputs = []
            for name in "abc":
                tensor = InferInput(name, [1], "BYTES")
                tensor.set_data_from_numpy(np.array([name.encode()], dtype=object))
                inputs.append(tensor)
            wanted = [InferRequestedOutput("c"), InferRequestedOutput("a")]
            result = await client.infer("echo", inputs, outputs=wanted, headers=AUTH)
            assert [output.name for output in result.get_response().outputs] == ["c", "a"]
            assert result.as_numpy("a").tolist() == [b"a"]

    run(test)


def test_contents_are_answered_with_contents_and_names_what_answered() -> None:
    async def test(rig: Rig) -> None:
        data, metadata = await rig.call("inference.GRPCInferenceService/ModelInfer", DIGITS)
        answer = pb.ModelInferResponse.FromString(data)
        assert list(answer.outputs[0].contents.fp32_contents) == [2, 4]
        assert not answer.raw_output_contents
        assert metadata["x-request-id"] == rig.lane.asked[0][1]
        assert (metadata["mofang-version"], metadata["mofang-revision"]) == ("3", "7")
        assert metadata["mofang-digest"] == "sha256:abc"

    run(test)


def test_the_deadline_is_the_callers() -> None:
    async def test(rig: Rig) -> None:
        before = time.monotonic()
        await rig.call("inference.GRPCInferenceService/ModelInfer", DIGITS, timeout=7)
        await rig.call("inference.GRPCInferenceService/ModelInfer", DIGITS)
        first, second = (asked[2] - before for asked in rig.lane.asked)
        assert 6 < first < 8
        assert 29 < second < 35

    run(test)


@pytest.mark.parametrize(
    ("model", "key", "status", "code", "words"),
    [
        ("digits", "", "UNAUTHENTICATED", "key.missing", "hint: "),
        ("digits", "Bearer bad", "UNAUTHENTICATED", "key.unknown", "error[key.unknown]"),
        ("none", KEY, "NOT_FOUND", "endpoint.not_found", "'none'"),
        ("../x", KEY, "INVALID_ARGUMENT", "name.invalid", "endpoint"),
        ("busy", KEY, "RESOURCE_EXHAUSTED", "replica.overloaded", "full"),
        ("broken", KEY, "INTERNAL", "internal", "failed"),
    ],
)
def test_refusals(model: str, key: str, status: str, code: str, words: str) -> None:
    async def test(rig: Rig) -> None:
        request = pb.ModelInferRequest.FromString(DIGITS)
        request.model_name = model
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.call("inference.GRPCInferenceService/ModelInfer", request.SerializeToString(), key=key)
        error = caught.value
        metadata = dict(error.trailing_metadata())
        assert (error.code().name, metadata["mofang-code"]) == (status, code)
        assert metadata["x-request-id"].startswith("req_")
        assert words in error.details()
        assert "secret" not in error.details()
        if code == "replica.overloaded":
            assert metadata["retry-after"] == "2"

    run(test)


def test_bytes_that_are_no_message_are_refused_in_words() -> None:
    async def test(rig: Rig) -> None:
        for data in (b"\xff\xff", b"\x0a\x01\xff"):  # not protobuf; a string that is not UTF-8
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await rig.call("inference.GRPCInferenceService/ModelInfer", data)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "ModelInferRequest" in caught.value.details()

    run(test)


def test_messages_are_bounded() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.call("inference.GRPCInferenceService/ModelInfer", b"\x0a" * (2 << 20))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def test_draining_refuses_all_but_health() -> None:
    async def test(rig: Rig) -> None:
        rig.lane.ready = False
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.call("inference.GRPCInferenceService/ModelInfer", DIGITS)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert dict(caught.value.trailing_metadata())["mofang-code"] == "server.draining"
        data, _ = await rig.call("inference.GRPCInferenceService/ServerReady", b"", key="")
        assert not pb.ServerReadyResponse.FromString(data).ready

    run(test)


def test_the_standard_health_service() -> None:
    async def test(rig: Rig) -> None:
        name = b"inference.GRPCInferenceService"
        for service in (b"", b"\x0a" + bytes([len(name)]) + name):
            assert (await rig.call("grpc.health.v1.Health/Check", service, key=""))[0] == b"\x08\x01"
        rig.lane.ready = False
        assert (await rig.call("grpc.health.v1.Health/Check", b"", key=""))[0] == b"\x08\x02"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.call("grpc.health.v1.Health/Check", b"\x0a\x01x", key="")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    run(test)


def test_watching_health_tells_every_change_and_the_end() -> None:
    async def test(rig: Rig) -> None:
        async with grpc.aio.insecure_channel(rig.address) as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            call, unknown = watch(b""), watch(b"\x0a\x01x")
            assert await call.read() == b"\x08\x01"
            assert await unknown.read() == b"\x08\x03"
            rig.lane.ready = False
            assert await call.read() == b"\x08\x02"
            rig.lane.ready = True
            assert await call.read() == b"\x08\x01"
            stopping = asyncio.create_task(rig.server.stop(10))
            assert await call.read() == b"\x08\x02"
            assert await call.read() == grpc.aio.EOF
            await stopping

    run(test)


def test_watchers_are_bounded() -> None:
    async def test(rig: Rig) -> None:
        async with grpc.aio.insecure_channel(rig.address) as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            calls = [watch(b"") for _ in range(64)]
            for call in calls:
                await call.read()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await watch(b"").read()
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def test_cancelling_a_call_cancels_its_work() -> None:
    async def test(rig: Rig) -> None:
        request = pb.ModelInferRequest(model_name="slow").SerializeToString()
        async with grpc.aio.insecure_channel(rig.address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
                request, metadata=[("authorization", KEY)]
            )
            await rig.lane.begun.wait()
            call.cancel()
            await rig.lane.dropped.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rig.call("inference.GRPCInferenceService/ModelInfer", request, timeout=0.2)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED

    run(test)


def test_a_port_in_use_is_told() -> None:
    async def test(rig: Rig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(PortInUse):
            await serve(rig.lane, f"127.0.0.1:{sock.getsockname()[1]}", reuse_port=False)

    run(test)


def test_a_client_error_reads_like_ours() -> None:
    async def test(rig: Rig) -> None:
        async with InferenceServerClient(rig.address) as client:
            with pytest.raises(InferenceServerException, match=r"error\[endpoint.not_found\]"):
                await client.get_model_metadata("none", headers=AUTH)

    run(test)
