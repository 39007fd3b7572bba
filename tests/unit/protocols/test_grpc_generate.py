"""Texts over ModelStreamInfer, by tritonclient and by hand: decoupled answers, parameters, errors, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc.aio import InferenceServerClient, InferInput

from mofang.surface.protocols.grpc.server import serve
from mofang.surface.wire import inference_pb2 as pb
from stream_bench import KEY, Bench, run

AUTH = (("authorization", f"Bearer {KEY.text}"),)
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def served(test: Callable[[Bench, str], Awaitable[None]], **engine: Any) -> None:
    async def scenario(bench: Bench) -> None:
        server = await serve(bench.lane, "127.0.0.1:0", generator=bench.generator)  # type: ignore[arg-type]
        try:
            await test(bench, f"127.0.0.1:{server.port}")
        finally:
            await server.stop(0)

    run(scenario, **engine)


def asked(text: str | bytes, name: str = "", model: str = "smol", **parameters: float | str | bool) -> Any:
    request = pb.ModelInferRequest(model_name=model, id=name)
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text if isinstance(text, bytes) else text.encode())
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for key, value in parameters.items():
        setattr(request.parameters[key], kinds[type(value)], value)
    return request


async def tell(where: str, *requests: Any) -> dict[str, list[Any]]:
    """Return the answers by the id of their request."""
    told: dict[str, list[Any]] = {}
    async with grpc.aio.insecure_channel(where) as channel:
        call = channel.stream_stream(STREAM)(metadata=AUTH)
        for request in requests:
            await call.write(request.SerializeToString())
        await call.done_writing()
        async for data in call:
            message = pb.ModelStreamInferResponse.FromString(data)
            told.setdefault(message.infer_response.id, []).append(message)
    return told


def said(messages: list[Any]) -> str:
    return b"".join(m.infer_response.outputs[0].contents.bytes_contents[0] for m in messages).decode()


def test_a_text_comes_in_pieces_and_the_last_says_so_and_is_on_record() -> None:
    async def test(bench: Bench, where: str) -> None:
        told = await tell(where, asked("«héllo wörld»", "a", max_tokens=40), asked("«short»", "b", stop="r"))
        assert (said(told["a"]), said(told["b"])) == ("héllo wörld", "sho")
        assert len(told["a"]) > 3
        finals = [message.infer_response.parameters["triton_final_response"].bool_param for message in told["a"]]
        assert finals == [False] * (len(finals) - 1) + [True]
        last = told["b"][-1].infer_response.parameters
        assert last["finish_reason"].string_param == "stop_sequence"
        assert (last["input_tokens"].int64_param, last["output_tokens"].int64_param) == (7, 4)
        by_id = {record.request_id: record.quantities["output_tokens"] for record in bench.records}
        assert by_id[last["mofang_request_id"].string_param] == 4
        assert len(by_id) == 2

    served(test)


def test_tritonclient_streams_texts_unmodified() -> None:
    async def test(bench: Bench, where: str) -> None:
        async def ask() -> AsyncIterator[dict[str, Any]]:
            tensor = InferInput("text_input", [1], "BYTES")
            tensor.set_data_from_numpy(np.array(["«token»".encode()], np.object_))
            yield {"model_name": "smol", "inputs": [tensor], "parameters": {"max_tokens": 3, "temperature": 0}}

        async with InferenceServerClient(where) as client:
            metadata = await client.get_model_metadata("smol", headers=dict(AUTH))
            assert [each.name for each in (*metadata.inputs, *metadata.outputs)] == ["text_input", "text_output"]
            pairs = [pair async for pair in client.stream_infer(ask(), headers=dict(AUTH))]
        assert {error for _, error in pairs} == {None}
        assert b"".join(result.as_numpy("text_output")[0] for result, _ in pairs) == b"tok"
        assert pairs[-1][0].get_response().parameters["triton_final_response"].bool_param

    served(test)


@pytest.mark.parametrize(
    ("request_of", "code", "named"),
    [
        (asked("x", max_tokens=0), "request.parameter", "max_tokens"),
        (asked("x", max_tokns=1), "request.parameter", "max_tokns"),
        (asked("x", temperature="hot"), "request.parameter", "temperature"),
        (asked(b"\xff\xfe"), "request.parameter", "UTF-8"),
        (asked("x" * 300), "generate.prompt_too_long", "300 characters"),
        (asked("ab!"), "engine.failed", "lost"),
        (asked("x", model="nobody"), "endpoint.not_found", "nobody"),
    ],
)
def test_what_is_wrong_fails_alone(request_of: Any, code: str, named: str) -> None:
    async def test(bench: Bench, where: str) -> None:
        request_of.id = "bad"
        told = await tell(where, request_of, asked("«fine»", "good"))
        error = told["bad"][-1].error_message
        assert code in error, error
        assert named in error, error
        assert told["bad"][-1].infer_response.parameters["mofang_request_id"].string_param.startswith("req_")
        assert said(told["good"]) == "fine"

    served(test)


def test_a_stream_that_is_cancelled_stops_the_model_and_pays_for_what_was_sent() -> None:
    async def test(bench: Bench, where: str) -> None:
        async with grpc.aio.insecure_channel(where) as channel:
            call = channel.stream_stream(STREAM)(metadata=AUTH)
            await call.write(asked("«" + "long" * 1000 + "»").SerializeToString())
            for _ in range(3):
                await call.read()
            call.cancel()
            async with asyncio.timeout(10):
                while not bench.engine.cancelled or not bench.records:  # noqa: ASYNC110 (they set no event)
                    await asyncio.sleep(0.01)
        assert 3 <= bench.records[0].quantities["output_tokens"] < 4000

    served(test, context=10_000)
