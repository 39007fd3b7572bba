"""What `mofang doctor`, `up` and `down` say of a machine on which no server runs."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest
from terminal import Terminal

from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.journal import JournalWriter


@pytest.fixture
def local(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    for name in ("MOFANG_URL", "MOFANG_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOFANG_DATA", str(tmp_path))
    monkeypatch.setenv("MOFANG_HTTP", "127.0.0.1:0")
    monkeypatch.setenv("MOFANG_GRPC", "127.0.0.1:0")
    return Terminal(capsys)


def states(terminal: Terminal, code: int) -> dict[str, str]:
    ran = terminal("doctor", "--json")
    assert ran.code == code, ran.out
    return {check["name"]: f"{check['state']}: {check['detail']}" for check in json.loads(ran.out)["checks"]}


def test_a_healthy_machine(local: Terminal, tmp_path: Path) -> None:
    DiskBlobs(tmp_path / "blobs").put([b"abc"])
    writer = JournalWriter(tmp_path / "journal", "gateway-0")
    writer.append(b"record")
    writer.close()
    found = states(local, 0)
    assert found["blobs"] == "ok: 1 objects hashed, 3 B"
    assert found["journal"] == "ok: 1 segments, 1 answers in them"
    assert "click " in found["packages"]
    assert found["server"].startswith("note: none runs on ")
    assert "all is well" in local.good("doctor").out


def test_a_damaged_object_is_named(local: Terminal, tmp_path: Path) -> None:
    ref = DiskBlobs(tmp_path / "blobs").put([b"abc"])
    path = tmp_path / "blobs" / ref.sha256[:2] / ref.sha256
    path.chmod(0o644)
    path.write_bytes(b"abd")
    ran = local("doctor")
    assert ran.code == 1
    assert f"{path} is damaged: its SHA-256 is {hashlib.sha256(b'abd').hexdigest()}" in ran.out
    assert local("doctor", "--quick").code == 0


def test_a_key_that_others_can_read(local: Terminal, tmp_path: Path) -> None:
    (tmp_path / "admin.key").write_text("mf_key")
    (tmp_path / "admin.key").chmod(0o644)
    assert "others can read" in states(local, 1)["admin key"]


def test_a_port_in_use_is_found_by_doctor_and_by_up(local: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MOFANG_HTTP", address)
        assert states(local, 1)["http port"].startswith(f"failed: {address}: ")
        ran = local("up")
    assert ran.code == 6
    assert ran.err.startswith(f"error[server.port_in_use]: cannot listen on {address} for http")


def test_there_is_nothing_to_stop(local: Terminal, tmp_path: Path) -> None:
    assert local.good("down").out == f"nothing to stop: no server runs on {tmp_path}\n"
    assert local.good("down", "--json").json == {"stopped": False, "pid": None, "data": str(tmp_path)}


@pytest.mark.parametrize("arguments", [("--http", "nowhere"), ("--grpc", "127.0.0.1:99999"), ("--gateways", "0")])
def test_a_wrong_setting_is_refused(local: Terminal, arguments: tuple[str, ...]) -> None:
    assert local("up", *arguments).code == 2
