"""A server that cannot start says why in one sentence, with a code and an exit code; nothing is half-written."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mofang.surface.server.folders import DataDirectory
from servers import Server

MOFANG = str(Path(sys.executable).with_name("mofang"))
FREE = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")


@dataclass(frozen=True)
class Ending:
    """How `mofang up` ended."""

    exit_code: int
    code: str
    sentence: str


def up(data: Path, *arguments: str, limit_bytes: int = 0, **environ: str) -> Ending:
    """Run `mofang up`, which is expected to fail; ``limit_bytes`` is the largest file it can write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = subprocess.run(
        [MOFANG, "up", "--data", str(data), *(arguments or FREE)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=limit if limit_bytes else None,
    )
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if " ended with " not in line]  # the supervisor's log
    assert lines, done
    first = lines[0]
    assert first.startswith("error["), done.stderr
    assert [line[:6] for line in lines[1:]] in ([], ["hint: "]), done.stderr
    code, _, sentence = first.removeprefix("error[").partition("]: ")
    return Ending(done.returncode, code, sentence)


@pytest.fixture
def taken() -> Iterator[str]:
    """An address on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("more", [(), ("--detach",)])
@pytest.mark.parametrize("name", ["http", "grpc"])
def test_a_port_in_use(tmp_path: Path, taken: str, name: str, more: tuple[str, ...]) -> None:
    addresses = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", name: taken}
    ending = up(tmp_path / "data", "--http", addresses["http"], "--grpc", addresses["grpc"], *more)
    assert (ending.exit_code, ending.code) == (6, "server.port_in_use")
    assert taken in ending.sentence
    assert name in ending.sentence
    assert not [path for path in (tmp_path / "data").iterdir() if path.name in ("mofang.db", "admin.key", "run.json")]


def test_two_servers_on_one_directory(server: Server) -> None:
    for more in ((), ("--detach",)):
        ending = up(server.data, *FREE, *more)
        assert (ending.exit_code, ending.code) == (6, "server.data_in_use")
        assert f"pid {server.pid}" in ending.sentence
    assert server.client.operate.is_ready()
    assert (DataDirectory(server.data).read_running() or {})["pid"] == server.pid


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for data in (file, file / "data", Path("/proc/mofang"), Path("/dev/null/data")):
        ending = up(data)
        assert (ending.exit_code, ending.code) == (6, "server.data_unusable"), data
        assert str(data) in ending.sentence
    assert file.read_text() == "mine"


def test_a_full_disk(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for limit_bytes, exit_code, code in ((10_000, 6, "server.data_unusable"), (90_000, 11, "storage.full")):
        ending = up(data, limit_bytes=limit_bytes)
        assert (ending.exit_code, ending.code) == (exit_code, code), ending
        assert not (data / "admin.key").exists()
    server = Server(data)  # with room again, it starts where it could not
    try:
        assert [key.role for key in server.client.identity.list_keys()] == ["owner"]
    finally:
        server.close()


def test_a_database_that_is_none(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "mofang.db").write_bytes(b"no database " * 1000)
    ending = up(data)
    assert (ending.code, ending.exit_code) == ("storage.unavailable", 11), ending
    assert (data / "mofang.db").read_bytes() == b"no database " * 1000
    assert not (data / "admin.key").exists()


@pytest.mark.parametrize(
    ("arguments", "environ", "code"),
    [
        (("--http", "8080"), {}, "settings.invalid"),
        (("--http", "127.0.0.1:99999"), {}, "settings.invalid"),
        (("--grpc", "127.0.0.1:grpc"), {}, "settings.invalid"),
        (("--gateways", "0"), {}, "usage"),
        (("--gateways", "two"), {}, "usage"),
        (("--unknown",), {}, "usage"),
        ((), {"MOFANG_GATEWAYS": "two"}, "settings.invalid"),
        ((), {"MOFANG_JOBS": "0"}, "settings.invalid"),
        ((), {"MOFANG_BODY_BYTES": "-1"}, "settings.invalid"),
        ((), {"MOFANG_DRAIN_SECONDS": "nan"}, "settings.invalid"),
        ((), {"MOFANG_DRAIN_SECONDS": "-5"}, "settings.invalid"),
        ((), {"MOFANG_DATABASE": "nonsense"}, "settings.invalid"),
    ],
)
def test_a_setting_that_cannot_be(
    tmp_path: Path, arguments: tuple[str, ...], environ: dict[str, str], code: str
) -> None:
    ending = up(tmp_path / "data", *arguments, *FREE[: 4 if not arguments else 0], **environ)
    assert (ending.exit_code, ending.code) == (2, code), ending
    assert not (tmp_path / "data" / "admin.key").exists()
    assert not (tmp_path / "data" / "mofang.db").exists()


def test_a_database_server_that_is_not_there(tmp_path: Path) -> None:
    ending = up(tmp_path / "data", MOFANG_DATABASE="postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert (ending.exit_code, ending.code) == (11, "storage.unavailable"), ending
    assert not (tmp_path / "data" / "admin.key").exists()


@pytest.mark.parametrize("address", ["256.256.256.256:0", "no.such.host.invalid:0", "203.0.113.1:0"])
def test_an_address_that_is_not_ours(tmp_path: Path, address: str) -> None:
    ending = up(tmp_path / "data", "--http", address, "--grpc", "127.0.0.1:0")
    assert (ending.exit_code, ending.code) == (6, "server.port_in_use"), ending
    assert address in ending.sentence
