"""Hostile files: none leaves a mark outside, whether it is refused or opened (cases A28 and A31)."""

import inspect
import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attempts import TEMPORARY, attempts, succeeded
from hostile import Call, artefacts
from mofang.base.domain.errors import MofangError
from mofang.base.domain.work import Silent
from mofang.make.convert.bench import Task, Wishes, make_apart
from mofang.make.convert.recognise import recognise

TOLD = "\nimport json\nraise SystemExit(json.dumps(attempts(*{!r})))"
"""How the error that ends the bench tells what came of each."""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A canary: nobody may ever connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def _hits(listener: socket.socket) -> int:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return 0
    return 1


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _open(folder: Path, content: bytes, name: Any = "pickle") -> str:
    """Have a file opened on the bench; return why it was refused."""
    folder.mkdir()
    (folder / "pushed").write_bytes(content)
    task = Task(name, folder / "pushed", folder / "bench" / "artifact", Wishes(allow_pickle=True), 4 << 30)
    task.target.parent.mkdir()
    with pytest.raises(MofangError) as caught:
        make_apart(task, Silent())
    return caught.value.message


def test_what_is_opened_reaches_nothing(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOFANG_DATABASE", "postgresql://user:password@host/db")
    secret, sentinel = tmp_path / "data" / "admin.key", tmp_path / "sentinel"
    secret.parent.mkdir()
    secret.write_text("mf_secret")
    program = Path(inspect.getfile(attempts)).read_text() + TOLD.format((str(secret), str(sentinel), _port(listener)))
    said = _open(tmp_path / "job", pickle.dumps(Call(exec, program, {})))
    found: dict[str, str] = json.loads(said.partition("SystemExit: ")[2])
    assert len(found) == 19
    assert succeeded(found) == {}
    assert "PermissionError" in found["read a secret"]
    assert not sentinel.exists()
    assert not Path(TEMPORARY).exists()
    assert _hits(listener) == 0


def test_over_sixty_hostile_files_leave_no_mark(tmp_path: Path, listener: socket.socket) -> None:
    """None is opened without leave: what they are is told by their bytes alone."""
    sentinel = tmp_path / "sentinel"
    all_of_them = [*artefacts(sentinel, _port(listener))]
    for name, content in all_of_them:
        folder = tmp_path / "pushed"
        folder.mkdir(exist_ok=True)
        (folder / "model").write_bytes(content)
        assert recognise(folder).format in ("pickle", "torch.state", "torchscript", "skops"), name
        assert not sentinel.exists(), name
    assert len(all_of_them) >= 60
    assert _hits(listener) == 0


def test_hostile_files_that_are_opened_leave_no_mark_either(tmp_path: Path, listener: socket.socket) -> None:
    sentinel = tmp_path / "sentinel"
    chosen = [
        (name, content)
        for name, content in artefacts(sentinel, _port(listener))
        if name in ("shell in pickle 4", "connection in zlib", "os.system in skops", "library in xz")
    ]
    assert len(chosen) == 4
    for number, (name, content) in enumerate(chosen):
        _open(tmp_path / str(number), content, "skops" if name.endswith("skops") else "pickle")
        assert not sentinel.exists(), name
    assert _hits(listener) == 0


def test_what_a_file_says_in_our_place_is_not_believed(tmp_path: Path) -> None:
    """It may write into the pipe to the parent; what is no message of ours ends the matter."""
    write = "import os\nfor each in range(3, 1024):\n  try: os.write(each, b'[1]\\n')\n  except OSError: pass"
    said = _open(tmp_path / "job", pickle.dumps(Call(exec, write, {})))
    assert "said something else than it should" in said
