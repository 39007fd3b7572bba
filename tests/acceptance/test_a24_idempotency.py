"""A24: requests that are sent again with the same Idempotency-Key are computed once and charged once."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal

import numpy as np
import pytest
from asking import inputs
from nets import slow

from mofang import Client
from mofang.base.domain.errors import DeadlineExceeded, KeyReused, MofangError, OutOfScope
from servers import Server, wait_until

Protocol = Literal["rest", "grpc"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), "--gateways", "2")
    running.serve("slow", slow(tmp_path_factory.mktemp("models")))
    yield running
    running.close()


@pytest.fixture(params=["rest", "grpc"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    found: Protocol = request.param
    return found


def new_project(server: Server) -> tuple[str, str]:
    """Return a new project and a key of it."""
    name = f"p{uuid.uuid4().hex[:12]}"
    server.client.identity.create_project(name)
    return name, server.client.identity.create_key(name).key


def requests(server: Server, project: str) -> int:
    """Return how many requests of a project are charged."""
    rows = server.client.meter.usage(["project"], project=project).items
    return rows[0].quantities["requests"] if rows else 0


def test_a24_the_same_request_again_gets_its_answer_and_no_charge(server: Server, protocol: Protocol) -> None:
    project, key = new_project(server)
    answers = []
    for _ in range(4):
        with Client(server.url, key, grpc=server.grpc) as client:  # a connection of its own: any gateway may get it
            answers.append(client.serve.predict("slow", inputs(1), protocol=protocol, idempotency_key="first"))
    assert len({answer.request_id for answer in answers}) == 1
    assert all(np.array_equal(answer.outputs["y"], answers[0].outputs["y"]) for answer in answers)
    assert (answers[0].version, answers[0].digest) == (answers[-1].version, answers[-1].digest)
    assert requests(server, project) == 1
    with Client(server.url, key, grpc=server.grpc) as client:
        with pytest.raises(KeyReused, match="'first' was used for another request"):
            client.serve.predict("slow", inputs(2), protocol=protocol, idempotency_key="first")
        client.serve.predict("slow", inputs(2), protocol=protocol, idempotency_key="second")
    assert requests(server, project) == 2


def test_a24_others_may_use_the_same_key(server: Server, protocol: Protocol) -> None:
    for project, key in (new_project(server), new_project(server)):
        with Client(server.url, key, grpc=server.grpc) as client:
            client.serve.predict("slow", inputs(1), protocol=protocol, idempotency_key="shared")
        assert requests(server, project) == 1


def test_a24_twins_are_computed_once(server: Server, protocol: Protocol) -> None:
    project, key = new_project(server)
    gate = threading.Barrier(8)

    def ask(_: int) -> str:
        with Client(server.url, key, grpc=server.grpc) as client:
            gate.wait(10)
            return client.serve.predict("slow", inputs(3000), protocol=protocol, idempotency_key="twin").request_id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert requests(server, project) == 1


def test_a24_what_was_not_computed_may_be_tried_again(server: Server) -> None:
    project, key = new_project(server)
    with Client(server.url, key, grpc=server.grpc) as client:
        with pytest.raises(DeadlineExceeded):
            client.serve.predict("slow", inputs(10**6), timeout_seconds=0.3, idempotency_key="late", protocol="grpc")
        with pytest.raises(MofangError, match="'x'"):
            client.serve.predict("slow", {"steps": np.array([1])}, idempotency_key="wrong")
        client.serve.predict("slow", inputs(1), idempotency_key="wrong")
    narrow = server.client.identity.create_key(project, endpoints=["other"]).key
    with Client(server.url, narrow, grpc=server.grpc) as client, pytest.raises(OutOfScope):
        client.serve.predict("slow", inputs(1), idempotency_key="wrong")
    assert requests(server, project) == 1


def test_a24_a_client_that_tries_until_it_is_answered_is_charged_once(server: Server) -> None:
    project, key = new_project(server)
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.3):
            with suppress(MofangError, ProcessLookupError):
                gateways = [e for e in server.client.operate.status().processes if e.name.startswith("gateway-")]
                os.kill(next(each.pid for each in gateways if each.pid), signal.SIGKILL)
                done.wait(1.0)

    killing = threading.Thread(target=kill)
    killing.start()
    until = time.monotonic() + 60
    for number in range(20):
        while time.monotonic() < until:
            with Client(server.url, key, grpc=server.grpc) as client, suppress(MofangError):
                client.serve.predict("slow", inputs(200), idempotency_key=f"try {number}", timeout_seconds=5)
                break
    done.set()
    killing.join()
    wait_until(lambda: requests(server, project) == 20, 20)
