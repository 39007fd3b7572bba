"""Which server, and with which key."""

import json
from pathlib import Path

import pytest

from mofang.base.domain.errors import ServerNotRunning
from mofang.surface.cli.connection import Connection, data_folder, find


@pytest.fixture
def local(tmp_path: Path) -> str:
    about = {"pid": 1, "http": "http://127.0.0.1:9000", "grpc": "127.0.0.1:9001", "started_at": 1}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "admin.key").write_text("mf_admin\n")
    return str(tmp_path)


def test_the_local_server_is_found_with_its_key(local: str) -> None:
    assert find("", "", local, {}) == Connection("http://127.0.0.1:9000", "mf_admin", "127.0.0.1:9001")
    assert find("", "", "", {"MOFANG_DATA": local}).key == "mf_admin"


def test_a_given_key_wins_over_the_environment_and_that_over_the_local_one(local: str) -> None:
    assert find("", "mf_given", local, {"MOFANG_API_KEY": "mf_env"}).key == "mf_given"
    assert find("", "", local, {"MOFANG_API_KEY": "mf_env"}).key == "mf_env"


def test_the_local_key_is_never_sent_elsewhere(local: str) -> None:
    assert find("http://elsewhere:9000", "", local, {}) == Connection("http://elsewhere:9000", "")
    assert find("", "", "", {"MOFANG_URL": "http://elsewhere/", "MOFANG_DATA": local}).key == ""
    assert find("http://127.0.0.1:9000/", "", local, {}).key == "mf_admin"


def test_a_named_data_directory_wins_over_the_url_of_the_environment(local: str) -> None:
    assert find("", "", local, {"MOFANG_URL": "http://elsewhere"}).url == "http://127.0.0.1:9000"


def test_no_server_is_said_with_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(ServerNotRunning) as caught:
        find("", "", str(tmp_path), {})
    assert f"mofang up --data {tmp_path} --detach" in caught.value.hint


def test_the_default_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_folder("", {}) == tmp_path / "mofang"
    assert data_folder("here", {"MOFANG_DATA": "/there"}) == Path.cwd() / "here"
    assert data_folder("", {"MOFANG_DATA": "/there"}) == Path("/there")
