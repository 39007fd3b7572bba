"""A05: a killed server comes back within ten seconds with the state it last acknowledged; so do its parts."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
from loads import Load
from nets import scaled

from mofang import Client
from mofang.base.domain.errors import MofangError
from servers import Server, wait_until

ROW = np.ones((1, 4), np.float32)


def acknowledged(server: Server) -> dict[str, object]:
    client = server.client
    endpoints = {summary.endpoint.name: summary.active for summary in client.deploy.list_endpoints()}
    aliases = {model.name: dict(model.aliases) for model in client.register.list_models()}
    return {"endpoints": endpoints, "aliases": aliases, "keys": client.identity.list_keys()}


def test_a_server_killed_under_load_comes_back_as_it_was(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path / "one", 1))
    server.serve("scale", scaled(tmp_path / "two", 2))
    server.serve("near", scaled(tmp_path / "three", 1), placement="thread")
    server.client.register.promote("scale", 2)
    with Load(server, "scale", clients=6) as load:
        load.wait_for_more(100)
        before = acknowledged(server)
        server.kill()
    answered = sum(load.answers.values())
    assert server.start() < 10.0
    assert acknowledged(server) | {"keys": 0} == before | {"keys": 0}
    assert server.client.serve.predict("scale", {"x": ROW}).version == 2
    assert server.client.serve.predict("near", {"x": ROW}, protocol="grpc").version == 1
    requests = [event for event in server.client.meter.events(endpoint="scale") if event.meter == "requests"]
    in_flight = 6
    assert answered + 1 <= len(requests) <= answered + 1 + in_flight
    assert server.client.audit.verify().records > 0


def test_a_killed_controller_does_not_stop_inference(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path, 1))
    controller = server.process("controller").pid
    with Load(server, "scale", clients=4) as load:
        load.wait_for_more(20)
        os.kill(controller, signal.SIGKILL)
        wait_until(lambda: server.client.operate.is_ready() and _has_new_controller(server, controller), 20)
        more = sum(load.answers.values()) + 20
        wait_until(lambda: sum(load.answers.values()) > more, 20)
    assert load.failures == []
    server.client.deploy.roll_out("scale", server.push("scale", scaled(tmp_path / "two", 2)))
    assert server.client.serve.predict("scale", {"x": ROW}).version == 2


def test_a_killed_gateway_is_replaced_on_the_same_port(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.serve("scale", scaled(tmp_path, 1))
    os.kill(server.process("gateway-0").pid, signal.SIGKILL)
    with Client(server.url, server.key) as newcomer:  # her connection waits in the listening socket's backlog
        wait_until(newcomer.operate.is_ready, 10)
        assert newcomer.serve.predict("scale", {"x": ROW}).version == 1


def _has_new_controller(server: Server, old: int) -> bool:
    try:
        return server.process("controller").pid not in (0, old)
    except MofangError:
        return False
