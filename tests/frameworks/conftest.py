"""One server with the real SmolLM2 behind ``smol``, pushed and deployed by the command line as a new user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import SMOLLM2, fetch
from servers import Server

Mofang = Callable[..., str]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def mofang(server: Server) -> Mofang:
    """Run the command line against the server; return what it prints."""

    def run(*arguments: str, typed: str = "") -> str:
        command = [str(Path(sys.executable).with_name("mofang")), *arguments]
        environ = {**os.environ, "MOFANG_DATA": str(server.data), "NO_COLOR": "1"}
        done = subprocess.run(command, env=environ, input=typed, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def smol(server: Server, mofang: Mofang) -> Server:
    """The server, with the model deployed."""
    mofang("push", "smol", str(fetch(SMOLLM2)))
    assert json.loads(mofang("deploy", "smol", "--json"))["state"] == "done"
    return server
