"""A12: with few file descriptors, a crowd of connections is refused in words, and the server goes on."""

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from asking import ROW, address
from nets import scaled

from mofang import Client
from servers import Server, wait_until

FEW = ("sh", "-c", 'ulimit -n 256; exec "$@"', "sh")
CROWD = 400


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Server]:
    """A server none of whose processes may open more than 256 files."""
    running = Server(tmp_path / "data", through=FEW)
    yield running
    running.close()


def test_a_crowd_is_refused_in_words_and_the_server_recovers(poor: Server, tmp_path: Path) -> None:
    poor.serve("scale", scaled(tmp_path, 3))
    gateway = poor.process("gateway-0")
    assert _descriptors(gateway.pid) < 64
    for _ in range(2):
        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(address(poor), 10)) for _ in range(CROWD)]
            heard = Counter(_first_words(each) for each in crowd[100:])
            assert heard[b"HTTP/1.1 503"] > 50
            assert set(heard) <= {b"HTTP/1.1 503", b""}  # in words, or at least at once
            assert _descriptors(gateway.pid) < 256
            with Client(poor.url, poor.key, grpc=poor.grpc) as client:  # there are some left for others
                assert client.serve.predict("scale", {"x": ROW}, protocol="grpc").outputs["y"].tolist() == [[3] * 4]
        wait_until(lambda: _descriptors(gateway.pid) < 80, 10, "the crowd to be forgotten")
        with Client(poor.url, poor.key) as client:
            assert client.serve.predict("scale", {"x": ROW}).outputs["y"].tolist() == [[3] * 4]
            assert client.operate.status().version  # over the controller's socket
    assert poor.process("gateway-0").pid == gateway.pid
    poor.serve("other", scaled(tmp_path / "other", 5))
    assert poor.client.serve.predict("other", {"x": ROW}).outputs["y"].tolist() == [[5] * 4]


def test_a_crowd_at_the_grpc_port_leaves_room_for_others(poor: Server, tmp_path: Path) -> None:
    poor.serve("scale", scaled(tmp_path, 3))
    gateway = poor.process("gateway-0").pid
    with ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(address(poor, "grpc"), 10)) for _ in range(CROWD)]
        for each in crowd:
            each.settimeout(5)
        assert sum(_first_words(each) == b"" for each in crowd[100:]) > 50  # closed at once
        assert _descriptors(gateway) < 256
        with Client(poor.url, poor.key) as client:
            assert client.serve.predict("scale", {"x": ROW}).outputs["y"].tolist() == [[3] * 4]
    wait_until(lambda: _descriptors(gateway) < 80, 20, "the crowd to be forgotten")
    with Client(poor.url, poor.key, grpc=poor.grpc) as client:
        for protocol in ("rest", "grpc"):
            answer = client.serve.predict("scale", {"x": ROW}, protocol=protocol)  # type: ignore[arg-type]
            assert answer.outputs["y"].tolist() == [[3] * 4]
    assert poor.process("gateway-0").pid == gateway


def _first_words(wire: socket.socket) -> bytes:
    try:
        return wire.recv(12)
    except ConnectionResetError:
        return b""


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
