"""A07: a deadline is kept whatever the model does, and what has expired in a queue is never computed."""

import select
import socket
import statistics
import time
from contextlib import ExitStack

import grpc
import httpx
import pytest
from asking import FOR_EVER, INFER, connect, cpu_seconds, inputs, slow_message, slow_request
from nets import slow

from servers import Server, wait_until

ENDPOINTS = pytest.mark.parametrize("endpoint", ["slow", "near"])


@pytest.fixture(scope="module")
def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = slow(tmp_path_factory.mktemp("slow"))
    server.serve("slow", file)
    server.serve("near", file, placement="thread")  # computes in the gateway's own process
    return server


@ENDPOINTS
def test_over_rest_the_answer_comes_at_the_deadline(served: Server, endpoint: str) -> None:
    seconds = []
    with connect(served) as wire:
        for _ in range(5):
            _until_free(served, endpoint)
            began = time.monotonic()
            wire.sendall(slow_request(served.key, FOR_EVER, "x-request-timeout-ms: 200", endpoint=endpoint))
            answer = wire.recv(1 << 16)
            seconds.append(time.monotonic() - began)
            assert answer.startswith(b"HTTP/1.1 504 ")
            assert b'"code":"deadline"' in answer
    assert 0.2 <= statistics.median(seconds) <= 0.3, seconds


@ENDPOINTS
def test_over_grpc_the_answer_comes_at_the_deadline(served: Server, endpoint: str) -> None:
    seconds = []
    with grpc.insecure_channel(served.grpc) as channel:
        call = channel.unary_unary(INFER)
        for _ in range(5):
            _until_free(served, endpoint)
            began = time.monotonic()
            with pytest.raises(grpc.RpcError) as caught:
                call(
                    slow_message(FOR_EVER, endpoint).SerializeToString(),
                    metadata=[("authorization", f"Bearer {served.key}")],
                    timeout=0.2,
                )
            seconds.append(time.monotonic() - began)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.19 <= statistics.median(seconds) <= 0.3, seconds


def test_what_expires_in_the_queue_is_never_computed(served: Server) -> None:
    for _ in range(20):  # until the replica expects short answers, and takes what follows
        _until_free(served)
    worker = served.process("replica/slow/")
    done_before, used_before = _computed(served), cpu_seconds(worker)
    with ExitStack() as stack:
        running, *queued = (stack.enter_context(connect(served)) for _ in range(21))
        running.sendall(slow_request(served.key, FOR_EVER, "x-request-timeout-ms: 1500"))
        wait_until(lambda: cpu_seconds(worker) - used_before > 0.2, 10, "the first to be computed")
        for each in queued:
            each.sendall(slow_request(served.key, FOR_EVER, "x-request-timeout-ms: 300"))
        assert {_status(each) for each in queued} == {504}
        assert _status(running) == 504
    _until_free(served)
    assert _computed(served) - done_before == 1  # the last, and nothing that expired
    assert cpu_seconds(worker) - used_before < 2.5


@ENDPOINTS
def test_the_engine_is_free_soon_after_the_deadline(served: Server, endpoint: str) -> None:
    _until_free(served, endpoint)
    with connect(served) as wire:
        wire.sendall(slow_request(served.key, FOR_EVER, "x-request-timeout-ms: 200", endpoint=endpoint))
        assert _status(wire) == 504
    began = time.monotonic()
    _until_free(served, endpoint)
    assert time.monotonic() - began < 1.0


def test_a_model_in_the_gateway_does_not_hold_up_what_else_is_asked_there(served: Server) -> None:
    for _ in range(20):  # until it is expected to be short, and computed in the event loop
        _until_free(served, "near")
    with connect(served) as wire:
        wire.sendall(slow_request(served.key, FOR_EVER, "x-request-timeout-ms: 1000", endpoint="near"))
        slowest = 0.0
        with httpx.Client(base_url=served.url) as other:
            while not select.select([wire], [], [], 0)[0]:
                began = time.monotonic()
                assert other.get("/v2/health/live").status_code == 200
                slowest = max(slowest, time.monotonic() - began)
        assert _status(wire) == 504
    assert slowest < 0.3


def _until_free(server: Server, endpoint: str = "slow") -> None:
    """Have a small question answered: nothing is before it then."""
    server.client.serve.predict(endpoint, inputs(1), timeout_seconds=20)


def _computed(server: Server) -> int:
    """Return how many rows were ever computed, as the statistics extension tells."""
    found = httpx.get(f"{server.url}/v2/models/slow/stats", headers={"authorization": f"Bearer {server.key}"})
    return int(found.json()["model_stats"][0]["inference_count"])


def _status(wire: socket.socket) -> int:
    return int(wire.recv(1 << 16).split()[1])
