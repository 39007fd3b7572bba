"""Limits on a running server: in force on return, in every gateway, over both protocols."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from nets import scaled, slow

from mofang import Client
from mofang.base.domain.errors import ConcurrencyLimited, MofangError, PayloadLimited, RateLimited
from servers import Server

X = np.ones((2, 4), np.float32)
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


@pytest.fixture(scope="module")
def limited(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("models"), 2))
    server.serve("slow", slow(tmp_path_factory.mktemp("models")))
    return server


def test_a_rate_is_held_over_both_protocols_and_told_in_headers(limited: Server) -> None:
    limited.client.identity.create_project("rated")
    key = limited.client.identity.create_key("rated").key
    limited.client.identity.set_limits("project", "rated", requests_per_minute=3)
    with (
        Client(limited.url, key, grpc=limited.grpc) as client,
        httpx.Client(base_url=limited.url, headers={"authorization": f"Bearer {key}"}) as web,
    ):
        client.serve.predict("scale", {"x": X}, protocol="grpc")
        answer = web.post("/v2/models/scale/infer", json=BODY)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == "1"
        assert 19 < float(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 40
        client.serve.predict("scale", {"x": X}, protocol="rest")
        for protocol in ("rest", "grpc"):
            with pytest.raises(RateLimited, match="project 'rated' may send 3 requests a minute") as caught:
                client.serve.predict("scale", {"x": X}, protocol=protocol)  # type: ignore[arg-type]
            assert 1 <= (caught.value.retry_after_seconds or 0) <= 20
        refused = web.post("/v2/models/scale/infer", json=BODY)
        assert (refused.status_code, refused.json()["code"]) == (429, "limit.rate")
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        limited.client.identity.set_limits("project", "rated")
        client.serve.predict("scale", {"x": X})


def test_large_requests_are_refused_as_too_large(limited: Server) -> None:
    key = limited.client.identity.create_key("default")
    limited.client.identity.set_limits("key", key.id, rows_per_minute=5, payload_bytes=100)
    with Client(limited.url, key.key, grpc=limited.grpc) as client:
        with pytest.raises(PayloadLimited, match="100 bytes a request"):
            client.serve.predict("scale", {"x": np.ones((100, 4), np.float32)}, protocol="grpc")
        limited.client.identity.set_limits("key", key.id, rows_per_minute=5)
        with pytest.raises(PayloadLimited, match="never fits"):
            client.serve.predict("scale", {"x": np.ones((6, 4), np.float32)}, protocol="rest")
        client.serve.predict("scale", {"x": np.ones((5, 4), np.float32)}, protocol="rest")


def test_concurrency_is_bounded_and_free_again(limited: Server) -> None:
    key = limited.client.identity.create_key("default")
    limited.client.identity.set_limits("key", key.id, concurrency=2)
    gate = threading.Barrier(8)

    def ask(steps: int) -> str:
        with Client(limited.url, key.key, grpc=limited.grpc) as client:
            gate.wait(10)
            return _outcome(
                lambda: client.serve.predict(
                    "slow", {"x": X[:1], "steps": np.array([steps], np.int64)}, timeout_seconds=20
                )
            )

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(ask, [20_000] * 8))
    assert outcomes == ["limit.concurrency"] * 6 + ["ok"] * 2
    with Client(limited.url, key.key, grpc=limited.grpc) as client:
        with pytest.raises(MofangError) as caught:  # a request that nobody waits for any more gives its slot back
            client.serve.predict(
                "slow", {"x": X[:1], "steps": np.array([50_000], np.int64)}, timeout_seconds=0.2, protocol="grpc"
            )
        assert not isinstance(caught.value, ConcurrencyLimited)
        client.serve.predict("slow", {"x": X[:1], "steps": np.array([1], np.int64)}, timeout_seconds=20)


def test_several_gateways_together_let_through_one_limit(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server("--gateways", "2")
    server.serve("scale", scaled(tmp_path, 2))
    key = server.consumer()
    server.client.identity.set_limits("project", "default", requests_per_minute=20)

    def ask(_: int) -> str:
        with Client(server.url, key, grpc=server.grpc) as client:  # a connection of its own: any gateway may get it
            return _outcome(lambda: client.serve.predict("scale", {"x": X}, protocol="rest"))

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(ask, range(80)))
    came_in = (time.monotonic() - began) / 60 * 20
    assert 10 <= outcomes.count("ok") <= 20 + came_in
    assert set(outcomes) == {"ok", "limit.rate"}


def _outcome(ask: Callable[[], object]) -> str:
    try:
        ask()
    except MofangError as error:
        return error.code
    return "ok"
