"""How the client meets a network that fails, a server that is another, and settings from the environment."""

from __future__ import annotations

import socket

import httpx
import pytest

from mofang import Client
from mofang.base.domain.errors import DeadlineExceeded, Exhausted, Internal, NotFound, Overloaded, ServerNotRunning
from mofang.surface.sdk.transport import rebuild, segment


def answering(status: int, **answer: object) -> Client:
    return Client(transport=httpx.MockTransport(lambda _: httpx.Response(status, **answer)))  # type: ignore[arg-type]


def test_nothing_listens_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url) as client:
            with pytest.raises(ServerNotRunning, match=url):
                client.operate.status()
            assert not client.operate.is_ready()


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_seconds=0.2) as client, pytest.raises(DeadlineExceeded, match="GET /api/v1/status"):
            client.operate.status()


def test_an_answer_that_is_none_of_ours() -> None:
    with answering(200, text="<html>") as client, pytest.raises(Internal, match="cannot read"):
        client.operate.status()
    with answering(502, text="Bad gateway") as client, pytest.raises(Internal, match="the server answered 502"):
        client.operate.status()
    with answering(404, json=["?"]) as client, pytest.raises(Internal, match="404"):
        client.operate.status()


def test_an_error_brings_its_retry_after() -> None:
    body = {"code": "replica.overloaded", "error": "the queue is full", "hint": "later"}
    with answering(429, json=body, headers={"retry-after": "3"}) as client, pytest.raises(Overloaded) as caught:
        client.operate.status()
    assert (caught.value.message, caught.value.hint) == ("the queue is full", "later")
    assert caught.value.retry_after_seconds == 3


def test_fields_this_client_does_not_know_are_ignored() -> None:
    with answering(200, json={"version": "9", "started_at": 1, "of tomorrow": 1}) as client:
        assert client.operate.status().version == "9"


def test_codes_become_classes() -> None:
    assert type(rebuild("not_found", "x")) is NotFound
    assert type(rebuild("exhausted", "x")) is Exhausted
    assert type(rebuild("of.tomorrow", "x")) is Internal


def test_a_name_stays_one_segment() -> None:
    assert segment("a/b") == "a%2Fb"
    assert segment("..") == "%2E%2E"
    assert segment("sha256:ab") == "sha256%3Aab"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOFANG_URL", "MOFANG_API_KEY", "MOFANG_GRPC"):
        monkeypatch.delenv(name, raising=False)
    with Client() as client:
        assert (client.url, client.grpc) == ("http://127.0.0.1:8080", "127.0.0.1:8081")
    with Client("http://[::1]:80") as client:
        assert client.grpc == "[::1]:8081"
    monkeypatch.setenv("MOFANG_URL", "https://models.example:9000/")
    monkeypatch.setenv("MOFANG_API_KEY", "from the environment")
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.extend((str(request.url), request.headers["authorization"]))
        return httpx.Response(200)

    with Client(transport=httpx.MockTransport(answer)) as client:
        assert client.grpc == "models.example:8081"
        assert client.operate.is_ready()
    assert seen == ["https://models.example:9000/v2/health/ready", "Bearer from the environment"]
