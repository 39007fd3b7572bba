"""Predictions over gRPC, against a real gRPC server that answers as the platform's does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from mofang import Client
from mofang.base.domain.errors import DeadlineExceeded, Internal, Overloaded, ServerNotRunning
from mofang.surface.sdk.grpc import METHOD
from mofang.surface.wire import inference_pb2 as messages

MADE_BY = (
    ("mofang-version", "3"),
    ("mofang-revision", "7"),
    ("mofang-digest", "sha256:abc"),
    ("x-request-id", "req_1"),
)
Answer = Callable[[Any, grpc.ServicerContext], Any]


@contextmanager
def connected(answer: Answer) -> Iterator[Client]:
    """A client of a server that answers with ``answer``."""
    _, service, method = METHOD.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=messages.ModelInferRequest.FromString,
        response_serializer=messages.ModelInferResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client("http://127.0.0.1:1", "good", grpc=f"127.0.0.1:{port}") as client:
            yield client
    finally:
        server.stop(None).wait()


def echo(request: Any, context: grpc.ServicerContext) -> Any:
    """Answer every input as an output of the same name."""
    assert ("authorization", "Bearer good") in context.invocation_metadata()
    assert (request.model_name, request.model_version) == ("echo", "3")
    context.send_initial_metadata(MADE_BY)
    answer = messages.ModelInferResponse(model_name="echo", raw_output_contents=request.raw_input_contents)
    for tensor in request.inputs:
        answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return answer


def refuse(code: grpc.StatusCode, *metadata: tuple[str, str]) -> Answer:
    """Answer with a status."""

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(metadata)
        context.abort(code, "the queue is full")

    return answer


def test_tensors_go_and_come_back_and_the_answer_names_what_made_it() -> None:
    inputs = {
        "x": np.arange(12, dtype=np.float32).reshape(3, 4),
        "words": np.array([b"a", "模坊".encode()], dtype=object),
        "flag": np.array(True),
    }
    with connected(echo) as client:
        answer = client.serve.predict("echo", inputs, protocol="grpc", version="3")
    for name, array in inputs.items():
        np.testing.assert_array_equal(answer.outputs[name], array)
        assert answer.outputs[name].dtype == array.dtype
    assert (answer.endpoint, answer.version, answer.revision) == ("echo", 3, 7)
    assert (answer.digest, answer.request_id) == ("sha256:abc", "req_1")


def test_an_error_is_rebuilt_from_its_code() -> None:
    metadata = (("mofang-code", "replica.overloaded"), ("mofang-hint", "later"), ("retry-after", "3"))
    with connected(refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, *metadata)) as client:
        with pytest.raises(Overloaded, match="the queue is full") as caught:
            client.serve.predict("digits", {}, protocol="grpc")
        assert (caught.value.hint, caught.value.retry_after_seconds) == ("later", 3)


def test_a_status_without_a_code_of_ours() -> None:
    for status, kind in (
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.UNAVAILABLE, ServerNotRunning),
        (grpc.StatusCode.UNIMPLEMENTED, Internal),
    ):
        with connected(refuse(status)) as client, pytest.raises(kind):
            client.serve.predict("digits", {}, protocol="grpc")
