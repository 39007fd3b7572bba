"""Clients of the Open Inference Protocol that others wrote: all get the same bits as our own, over every wire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang import Client
from servers import Server

PACKAGES = ("kserve>=0.21", "open-inference-openapi>=2", "open-inference-grpc>=2")
SCRIPT = Path(__file__).with_name("other_clients.py")
CLIENTS = {"kserve": {"rest, json", "rest, binary", "grpc"}, "openapi": {"rest"}, "grpc": {"grpc"}}
X = np.array([[0.1, -1e-30, 3e38, 1 / 3]], np.float32)  # no fraction of these is exact


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with their packages, which want other releases of ours; it is kept."""
    home = Path(".cache/clients").absolute()
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin/python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (home / "ready").touch()
    return home / "bin/python"


@pytest.mark.timeout(600)
def test_every_client_gets_the_same_bits(python: Path, server: Server, tmp_path: Path) -> None:
    server.serve("scale", scaled(tmp_path, 1 / 3))
    wanted = (X * np.float32(1 / 3)).tobytes().hex()
    with Client(server.url, server.key, grpc=server.grpc) as ours:
        for protocol in ("rest", "grpc"):
            answer = ours.serve.predict("scale", {"x": X}, protocol=protocol)  # type: ignore[arg-type]
            assert answer.outputs["y"].tobytes().hex() == wanted
    for client, wires in CLIENTS.items():
        told = [client, server.url, server.grpc, f"Bearer {server.key}", X.tobytes().hex()]
        done = subprocess.run([python, SCRIPT, *told], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(wires, wanted)
