"""A31: where workers are locked in, a model that breaks out of its engine finds nothing, reaches nobody and fills
nothing; who is served beside it notices nothing."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loads import Load
from nets import scaled

from attempts import TEMPORARY, succeeded
from mofang.surface.server.folders import DataDirectory
from servers import Server

TESTS = Path(__file__).parents[1]
EVIL = np.full((1, 4), 666, np.float32)
MARK = "hostile: "


def test_a31_a_hostile_model_reaches_nothing(start_server: Callable[..., Server], tmp_path: Path) -> None:
    data, sentinel = DataDirectory(tmp_path / "data0"), tmp_path / "sentinel"
    others = [str(each) for each in (data.root / "mofang.db", data.logs / "controller.log", data.running, data.cache)]
    others.append("/proc/self/environ")
    with socket.create_server(("127.0.0.1", 0)) as canary:
        canary.setblocking(False)
        plan = [str(data.admin_key), str(sentinel), canary.getsockname()[1], others]
        (tmp_path / "plan").mkdir()
        (tmp_path / "plan" / "hostile_plan.py").write_text(f"PLAN = {plan!r}")
        folders = [*(TESTS / name for name in ("hostileworker", "failpoints", "")), tmp_path / "plan"]
        server = start_server(PYTHONPATH=os.pathsep.join(map(str, folders)), MOFANG_WORKER_BYTES=str(4 << 30))
        server.serve("scale", scaled(tmp_path / "scale", 1))
        server.serve("hostile", scaled(tmp_path / "hostile", 3))
        with Load(server, "scale", clients=2) as load:
            load.wait_for_more(20)
            answer = server.client.serve.predict("hostile", {"x": EVIL}, timeout_seconds=60)
            load.wait_for_more(20)
        large = np.ones((1 << 16, 4), np.float32)  # a worker that is locked in maps nobody's memory
        assert np.array_equal(server.client.serve.predict("scale", {"x": large}).outputs["y"], large)
        with pytest.raises(BlockingIOError):
            canary.accept()
    assert answer.outputs["y"].tolist() == (3 * EVIL).tolist()
    assert not load.failures
    assert load.wrong == 0
    [found] = said(server)
    assert len(found) == 19 + len(others)
    assert succeeded(found) == {}
    assert not sentinel.exists()
    assert not Path(TEMPORARY).exists()
    assert not [each for each in server.client.meter.reconcile().items if each.difference]


def said(server: Server) -> list[dict[str, str]]:
    """Return what came of the attempts, from the log of the worker that made them."""
    lines = [line for log in (server.data / "logs").iterdir() for line in log.read_text().splitlines()]
    return [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
