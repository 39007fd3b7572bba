"""Hostile files: none leaves a mark outside, whether it is refused or opened (cases A28 and A31)."""

import json
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile import Call, artefacts
from mofang.base.domain.errors import MofangError
from mofang.base.domain.work import Silent
from mofang.make.convert.bench import Task, Wishes, make_apart
from mofang.make.convert.recognise import recognise

# Tried inside the bench; what came of each is told in the error that ends it.
ATTEMPTS = """
import json, os, socket, subprocess, ctypes, threading, signal
def tried(attempt):
    try:
        return repr(attempt())[:60]
    except BaseException as error:
        return type(error).__name__
parent = os.getppid()
kernel = ctypes.CDLL(None, use_errno=True)
found = {
    "read a secret": tried(lambda: open(SECRET).read()),
    "list the data directory": tried(lambda: os.listdir(os.path.dirname(SECRET))),
    "read the parent's memory": tried(lambda: open(f"/proc/{parent}/mem", "rb").read(1)),
    "read the parent's environment": tried(lambda: open(f"/proc/{parent}/environ").read()),
    "write a file": tried(lambda: open(SENTINEL, "w")),
    "make a folder": tried(lambda: os.mkdir(SENTINEL)),
    "link a file": tried(lambda: os.link(SECRET, "here")),
    "write into temporary files": tried(lambda: open("/tmp/mofang-sentinel", "w")),
    "open a connection": tried(lambda: socket.create_connection(("127.0.0.1", PORT), 2)),
    "open a local socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "open a socket pair": tried(socket.socketpair),
    "fork": tried(os.fork),
    "start a program": tried(lambda: subprocess.run(["/bin/true"])),
    "become a program": tried(lambda: os.execv("/bin/true", ["true"])),
    "signal the parent": tried(lambda: os.kill(parent, signal.SIGCONT)),
    "trace the parent": tried(lambda: kernel.ptrace(16, parent, 0, 0)),
    "make a namespace": tried(lambda: kernel.unshare(0x10000000)),
    "take ten gigabytes": tried(lambda: len(bytearray(10 << 30))),
    "see the server's settings": tried(lambda: [name for name in os.environ if name.startswith("MOFANG")]),
}
raise SystemExit(json.dumps(found))
"""
DENIED = {"PermissionError", "MemoryError", "OSError"}  # the last: another file system, to Landlock
REFUSED_BY_RESULT = {"trace the parent": "-1", "make a namespace": "-1", "see the server's settings": "[]"}


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
    program = f"SECRET, SENTINEL, PORT = {str(secret)!r}, {str(sentinel)!r}, {listener.getsockname()[1]}\n{ATTEMPTS}"
    said = _open(tmp_path / "job", pickle.dumps(Call(exec, program, {})))
    found: dict[str, str] = json.loads(said.partition("SystemExit: ")[2])
    assert len(found) == 19
    assert {
        attempt: came
        for attempt, came in found.items()
        if came not in DENIED and came != REFUSED_BY_RESULT.get(attempt)
    } == {}
    assert "PermissionError" in found["read a secret"]
    assert not sentinel.exists()
    assert not Path("/tmp/mofang-sentinel").exists()
    assert _hits(listener) == 0


def test_over_sixty_hostile_files_leave_no_mark(tmp_path: Path, listener: socket.socket) -> None:
    """None is opened without leave: what they are is told by their bytes alone."""
    sentinel = tmp_path / "sentinel"
    all_of_them = [*artefacts(sentinel, listener.getsockname()[1])]
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
        for name, content in artefacts(sentinel, listener.getsockname()[1])
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
