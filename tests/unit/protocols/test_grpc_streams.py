"""ModelStreamInfer and server reflection on a real port, asked by tritonclient and by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from tritonclient.grpc.aio import InferenceServerClient, InferInput

from fake_lane import KEY, FakeLane
from mofang.base.domain.errors import RequestTimeout
from mofang.base.storage.once import Once
from mofang.surface.protocols.grpc.server import GrpcServer, serve
from mofang.surface.protocols.grpc.streams import Streams
from mofang.surface.wire import inference_pb2 as pb
from mofang.surface.wire import reflection_pb2

AUTH = (("authorization", KEY),)
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
REFLECTION = "/grpc.reflection.{}.ServerReflection/ServerReflectionInfo"


def run(test: Callable[[FakeLane, GrpcServer, Any], Awaitable[None]]) -> None:
    async def bounded() -> None:
        lane = FakeLane()
        server = await serve(lane, "127.0.0.1:0")
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            await test(lane, server, channel)
        await server.stop(0)

    asyncio.run(bounded())


def question(model: str, name: str, first: float = 1) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": [first, 2, 3, 4]}}
    return bytes(pb.ModelInferRequest(model_name=model, id=name, inputs=[tensor]).SerializeToString())


def answer(data: bytes) -> Any:
    return pb.ModelStreamInferResponse.FromString(data)


def test_every_message_is_answered_in_its_turn_and_errors_fail_alone() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(metadata=AUTH)
        for index in range(300):  # more than are computed at once
            await call.write(question("busy" if index % 3 == 1 else "digits", str(index), index))
        await call.write(b"\xff\xff")
        await call.done_writing()
        answers = [answer(data) async for data in call]
        assert len(answers) == 301
        for index, each in enumerate(answers[:300]):
            assert each.infer_response.id == str(index)
            assert each.infer_response.parameters["mofang_request_id"].string_param.startswith("req_")
            if index % 3 == 1:
                assert each.error_message.startswith("error[replica.overloaded]")
            else:
                assert not each.error_message
                assert list(each.infer_response.outputs[0].contents.fp32_contents) == [2 * index, 4]
        assert "ModelInferRequest" in answers[300].error_message
        assert await call.code() == grpc.StatusCode.OK

    run(test)


def test_an_answer_comes_before_the_next_question() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(metadata=AUTH)
        for index in range(3):
            await call.write(question("digits", str(index)))
            assert answer(await call.read()).infer_response.id == str(index)
        await call.done_writing()

    run(test)


def test_triton_client_streams_unmodified() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        async def ask() -> AsyncIterator[dict[str, Any]]:
            for index, model in enumerate(("digits", "broken", "digits")):
                tensor = InferInput("x", [1, 4], "FP32")
                tensor.set_data_from_numpy(np.full((1, 4), index, np.float32))
                yield {"model_name": model, "inputs": [tensor]}

        async with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            found = [pair async for pair in client.stream_infer(ask(), headers=dict(AUTH))]
        assert [error is None for _, error in found] == [True, False, True]
        assert found[2][0].as_numpy("y").tolist() == [[4, 4]]
        assert "secret" not in str(found[1][1])

    run(test)


@pytest.mark.parametrize("path", [STREAM, REFLECTION.format("v1")])
def test_streams_need_a_key(path: str) -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(path)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert dict(caught.value.trailing_metadata())["mofang-code"] == "key.missing"

    run(test)


def test_the_end_of_a_stream_drops_what_it_asked() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(metadata=AUTH)
        await call.write(question("slow", "1"))
        await lane.begun.wait()
        call.cancel()
        await lane.dropped.wait()

    run(test)


def test_the_deadline_of_a_stream_is_that_of_its_messages() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(metadata=AUTH, timeout=0.5)
        await call.write(question("slow", "1"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await lane.dropped.wait()

    run(test)


def test_a_server_that_stops_does_not_wait_for_silent_streams() -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        call = channel.stream_stream(STREAM)(metadata=AUTH)
        await call.write(question("digits", "1"))
        await call.read()
        async with asyncio.timeout(5):
            await server.stop(60)
        assert await call.read() == grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK

    run(test)


def test_a_silent_stream_is_ended() -> None:
    async def test() -> None:
        async def nobody() -> AsyncIterator[bytes]:
            await asyncio.get_running_loop().create_future()
            yield b""

        async with asyncio.timeout(5):
            with pytest.raises(RequestTimeout, match="no message came"):
                await Streams(silent_seconds=0.05).run(nobody(), _never)

    asyncio.run(test())


async def _never(data: bytes, context: Any) -> bytes:
    raise AssertionError


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_describes_all_that_is_served(version: str) -> None:
    async def test(lane: FakeLane, server: GrpcServer, channel: Any) -> None:
        async def ask(**fields: str) -> Any:
            await call.write(reflection_pb2.ServerReflectionRequest(**fields).SerializeToString())
            return reflection_pb2.ServerReflectionResponse.FromString(await call.read())

        call = channel.stream_stream(REFLECTION.format(version))(metadata=AUTH)
        listed = (await ask(list_services="")).list_services_response.service
        names = {service.name for service in listed}
        assert names == {
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "inference.GRPCInferenceService",
        }
        pool = descriptor_pool.DescriptorPool()
        for name in sorted(names):
            found = await ask(file_containing_symbol=name)
            (data,) = found.file_descriptor_response.file_descriptor_proto
            pool.AddSerializedFile(data)
            assert pool.FindServiceByName(name).methods
        symbol = "inference.ModelInferRequest.InferInputTensor.shape"
        assert (await ask(file_containing_symbol=symbol)).HasField("file_descriptor_response")
        by_name = (await ask(file_by_filename="inference.proto")).file_descriptor_response
        file = descriptor_pb2.FileDescriptorProto.FromString(by_name.file_descriptor_proto[0])
        assert file.package == "inference"
        message = "inference.ModelInferRequest"
        extensions = (await ask(all_extension_numbers_of_type=message)).all_extension_numbers_response
        assert extensions.base_type_name == message
        for unknown in ({"file_containing_symbol": "inference.No"}, {"file_by_filename": "no.proto"}, {"host": "h"}):
            refused = await ask(**unknown)
            assert refused.error_response.error_code == 5
            assert refused.original_request == reflection_pb2.ServerReflectionRequest(**unknown)
        await call.done_writing()

    run(test)


def test_messages_of_a_stream_are_sent_again_by_keys_of_their_own(tmp_path: Path) -> None:
    def keyed(key: str, first: float = 1) -> bytes:
        message = pb.ModelInferRequest.FromString(question("digits", key, first))
        message.parameters["mofang_idempotency_key"].string_param = key
        return bytes(message.SerializeToString())

    async def test() -> None:
        lane = FakeLane()
        server = await serve(lane, "127.0.0.1:0", once=Once(tmp_path, 3600))
        async with asyncio.timeout(20), grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:

            async def ask(*messages: bytes) -> list[Any]:
                call = channel.stream_stream(STREAM)(metadata=AUTH)
                for each in messages:
                    await call.write(each)
                await call.done_writing()
                return [answer(data) async for data in call]

            first, twin, other = await ask(keyed("a"), keyed("a"), keyed("b"))
            [again], [wrong], [free] = [await ask(m) for m in (keyed("a"), keyed("a", 2), question("digits", "x"))]
            ids = [each.infer_response.parameters["mofang_request_id"].string_param for each in (first, twin, again)]
            assert len(set(ids)) == 1
            assert first.infer_response.outputs == again.infer_response.outputs
            replays = [each.infer_response.parameters["mofang_idempotency_replayed"].bool_param for each in
                       (twin, again, other, free)]  # fmt: skip
            assert replays == [True, True, False, False]
            assert wrong.error_message.startswith("error[request.key_reused]")
        await server.stop(0)

    asyncio.run(test())
