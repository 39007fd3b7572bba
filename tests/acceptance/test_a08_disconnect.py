"""A08: what a client asked that has gone is not computed: not from the queue, and not to its end."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from asking import FOR_EVER, INFER, connect, cpu_seconds, in_flight, inputs, slow_message, slow_request
from nets import slow

from servers import Server, wait_until

Ask = Callable[[ExitStack], Callable[[], object]]
"""Asks the slow model for ever; calling what is returned makes the client go away."""


@pytest.fixture(scope="module")
def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("slow", slow(tmp_path_factory.mktemp("slow")))
    return server


@pytest.fixture(params=["rest", "grpc", "grpc stream", "grpc connection"])
def ask(request: pytest.FixtureRequest, served: Server) -> Ask:
    metadata = [("authorization", f"Bearer {served.key}")]

    def rest(stack: ExitStack) -> Callable[[], object]:
        wire = stack.enter_context(connect(served))
        wire.sendall(slow_request(served.key, FOR_EVER))
        return wire.close

    def unary(stack: ExitStack) -> Callable[[], object]:
        channel = stack.enter_context(grpc.insecure_channel(served.grpc))
        call = channel.unary_unary(INFER).future(slow_message(FOR_EVER).SerializeToString(), metadata=metadata)
        stack.callback(call.cancel)  # and keep it: one that nobody holds is cancelled
        return channel.close if request.param == "grpc connection" else call.cancel

    def stream(stack: ExitStack) -> Callable[[], object]:
        channel = stack.enter_context(grpc.insecure_channel(served.grpc))
        gone = threading.Event()

        def messages() -> Iterator[bytes]:
            yield slow_message(FOR_EVER).SerializeToString()
            gone.wait(60)

        call = channel.stream_stream(INFER.replace("ModelInfer", "ModelStreamInfer"))(messages(), metadata=metadata)
        stack.callback(gone.set)
        return call.cancel

    return {"rest": rest, "grpc stream": stream}.get(request.param, unary)


def test_a_call_of_a_client_that_went_away_is_given_up(served: Server, ask: Ask) -> None:
    worker = served.process("replica/slow/")
    _small_question(served)
    used = cpu_seconds(worker)
    with ExitStack() as stack:
        leave = ask(stack)
        wait_until(lambda: cpu_seconds(worker) > used + 0.1, 10, "the model to compute")
        left = time.monotonic()
        leave()
        _small_question(served)
        assert time.monotonic() - left < 1.0
        wait_until(lambda: in_flight(served) == 0, 5, "the call to be gone from the gateway")


def test_a_queued_call_of_a_client_that_went_away_is_never_computed(served: Server, ask: Ask) -> None:
    worker = served.process("replica/slow/")
    _small_question(served)
    used = cpu_seconds(worker)
    with ExitStack() as stack:
        first = stack.enter_context(connect(served))
        first.sendall(slow_request(served.key, FOR_EVER))
        wait_until(lambda: cpu_seconds(worker) > used + 0.1, 10, "the first to be computed")
        leave = [ask(stack) for _ in range(3)]
        wait_until(lambda: in_flight(served) == 4, 10, "the others to be queued")
        for each in leave:
            each()
        wait_until(lambda: in_flight(served) == 1, 5, "those who left to be forgotten")
        first.close()
        began = time.monotonic()
        _small_question(served)
        assert time.monotonic() - began < 1.0  # three of the others would have taken days


def _small_question(server: Server) -> None:
    server.client.serve.predict("slow", inputs(1), timeout_seconds=20)
