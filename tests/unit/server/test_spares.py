"""Spare workers: who gets one, when there is one, and what becomes of the process."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from test_supervisor import SLEEPER, run, until

from mofang.base.domain.deployment import ReplicaLimits, Revision
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Signature
from mofang.surface.server.processes import Processes
from mofang.surface.server.restarts import ProcessSpec, ProcessState
from mofang.surface.server.spares import Spares
from mofang.surface.server.supervisor import Supervisor

ON_DEMAND = Revision("a", 1, "m", 1, "sha256:0", "onnx", Signature((), ()), limits=ReplicaLimits(on_demand=True))
ALWAYS = replace(ON_DEMAND, limits=ReplicaLimits())
WORKER = ProcessSpec("replica/a/1/0", SLEEPER)
HERE = {"spare/onnx/0": ProcessState("spare/onnx/0", "running", 7, started_at=1)}
TELLS = "import signal, sys; open(sys.argv[1], 'w').write(sys.stdin.readline()); signal.pause()"
SPARE = ProcessSpec("spare/onnx/0", SLEEPER, spare=True)


def test_only_endpoints_on_demand_want_a_spare_of_the_engine_that_most_have() -> None:
    assert [spec.name for spec in Spares(1).missing([ON_DEMAND], {})] == ["spare/onnx/0"]
    assert Spares(1).missing([ALWAYS], {}) == []
    assert Spares(0).missing([ON_DEMAND], {}) == []
    trees = replace(ON_DEMAND, engine="xgboost")
    assert [spec.name for spec in Spares(2).missing([ON_DEMAND, trees, trees], {})] == [
        "spare/xgboost/0",
        "spare/xgboost/1",
    ]


def test_none_is_started_while_a_worker_has_just_begun_to_load() -> None:
    assert Spares(1).missing([ON_DEMAND], {WORKER.name: ProcessState(WORKER.name, "running", 5, started_at=1)})
    loading = {WORKER.name: ProcessState(WORKER.name, "running", 5, started_at=now_us())}
    assert Spares(1).missing([ON_DEMAND], loading) == []


def test_none_is_started_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mofang.surface.server.spares._free_bytes", lambda: 100 << 20)
    assert Spares(1).missing([ON_DEMAND], {}) == []


def test_a_spare_goes_when_no_endpoint_is_loaded_on_demand_any_more() -> None:
    assert Spares(1).superfluous([ON_DEMAND], HERE) == []
    assert Spares(1).superfluous([ALWAYS], HERE) == ["spare/onnx/0"]


def test_a_spare_is_offered_once_and_for_its_engine_only() -> None:
    spares = Spares(1)
    assert spares.offer(WORKER, "xgboost", HERE).instead_of == ""
    assert spares.offer(WORKER, "onnx", HERE).instead_of == "spare/onnx/0"
    assert spares.offer(replace(WORKER, name="replica/b/1/0"), "onnx", HERE).instead_of == ""
    assert spares.missing([ON_DEMAND], {})  # once it is gone there may be another, which may be offered
    assert spares.offer(WORKER, "onnx", HERE).instead_of == "spare/onnx/0"


def test_a_worker_takes_the_spare_and_is_told_its_last_argument(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        processes.start(replace(SPARE, argv=("-c", TELLS, str(fifo))))
        await until(news, lambda: SPARE.name in processes.states and processes.states[SPARE.name].pid > 0)
        pid = processes.states[SPARE.name].pid
        processes.start(ProcessSpec("replica/a/1/0", ("-c", "ignored", "the argument"), instead_of=SPARE.name))
        await until(news, lambda: "replica/a/1/0" in processes.states)
        assert processes.states["replica/a/1/0"].pid == pid
        assert SPARE.name not in processes.states
        told = json.loads(await asyncio.to_thread(fifo.read_text))
        assert told == {"argument": "the argument", "log": str(tmp_path / "logs" / "replica-a-1-0.log")}
        processes.stop("replica/a/1/0", 5.0)
        await until(news, lambda: not processes.states)
        assert not Path(f"/proc/{pid}").exists()

    run(tmp_path, scenario)


def test_a_spare_that_died_is_replaced_and_one_that_dies_as_a_worker_comes_back_as_that(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        def pid(name: str) -> int:
            return processes.states[name].pid if name in processes.states else 0

        processes.start(SPARE)
        await until(news, lambda: pid(SPARE.name) > 0)
        first = pid(SPARE.name)
        os.kill(first, signal.SIGKILL)
        await until(news, lambda: pid(SPARE.name) not in (0, first))
        taken = pid(SPARE.name)
        processes.start(replace(WORKER, instead_of=SPARE.name))
        await until(news, lambda: pid(WORKER.name) == taken)
        os.kill(taken, signal.SIGKILL)
        await until(news, lambda: pid(WORKER.name) not in (0, taken))
        assert Path(f"/proc/{pid(WORKER.name)}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-c", SLEEPER[1].encode()]

    run(tmp_path, scenario)


def test_a_worker_that_finds_no_spare_starts_as_ever(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(replace(WORKER, instead_of=SPARE.name))
        await until(news, lambda: WORKER.name in processes.states and processes.states[WORKER.name].pid > 0)

    run(tmp_path, scenario)
