"""Nurseries: who gets one, when there is one, and what becomes of the processes that are born of it."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_supervisor import SLEEPER, run, until

from forks import fork
from mofang.base.domain.deployment import ReplicaLimits, Revision
from mofang.base.domain.names import now_us
from mofang.base.domain.tensors import Signature
from mofang.surface.server.memory import Memory
from mofang.surface.server.nurseries import Nurseries, born
from mofang.surface.server.processes import Processes
from mofang.surface.server.restarts import ProcessSpec, ProcessState
from mofang.surface.server.supervisor import Supervisor

ON_DEMAND = Revision("a", 1, "m", 1, "sha256:0", "onnx", Signature((), ()), limits=ReplicaLimits(on_demand=True))
ALWAYS = replace(ON_DEMAND, limits=ReplicaLimits())
NAME = "nursery/onnx"
WORKER = ProcessSpec("replica/a/1/0", SLEEPER)
HERE = {NAME: ProcessState(NAME, "running", 7, started_at=1)}
BEARS = """
import os, signal, sys
from mofang.surface.server import nursery

def work(argument):
    print("born", argument, os.getpid(), os.readlink("/proc/self/fd/0"), flush=True)
    signal.pause()

nursery.work = work
sys.exit(nursery.main())
"""
NURSERY = ProcessSpec(NAME, ("-c", BEARS, "onnx"), nursery=True)


def test_engines_of_most_endpoints_on_demand_have_a_nursery() -> None:
    trees, lines = replace(ON_DEMAND, engine="xgboost"), replace(ON_DEMAND, engine="vowpalwabbit")
    asked = [ON_DEMAND, trees, trees, lines, lines, ALWAYS]
    assert [spec.name for spec in Nurseries(1).missing([ON_DEMAND], {})] == [NAME]
    assert Nurseries(1).missing([ALWAYS], {}) == []
    assert Nurseries(0).missing([ON_DEMAND], {}) == []
    assert Nurseries(9).missing([replace(ON_DEMAND, engine="another")], {}) == []  # who knows what a fork does to it
    assert [spec.name for spec in Nurseries(1).missing(asked, {})] == ["nursery/vowpalwabbit"]
    assert [spec.name for spec in Nurseries(2).missing(asked, {})] == ["nursery/vowpalwabbit", "nursery/xgboost"]
    assert [spec.name for spec in Nurseries(9).missing(asked, HERE)] == ["nursery/vowpalwabbit", "nursery/xgboost"]


def test_none_is_started_while_a_worker_has_just_begun_to_load() -> None:
    assert Nurseries(1).missing([ON_DEMAND], {WORKER.name: ProcessState(WORKER.name, "running", 5, started_at=1)})
    loading = {WORKER.name: ProcessState(WORKER.name, "running", 5, started_at=now_us())}
    assert Nurseries(1).missing([ON_DEMAND], loading) == []


def test_none_is_started_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mofang.surface.server.nurseries._free_bytes", lambda: 100 << 20)
    assert Nurseries(1).missing([ON_DEMAND], {}) == []


def test_a_nursery_goes_when_no_endpoint_is_loaded_on_demand_any_more() -> None:
    assert Nurseries(1).superfluous([ON_DEMAND], HERE) == []
    assert Nurseries(1).superfluous([ALWAYS], HERE) == [NAME]


def test_workers_are_born_of_the_nursery_of_their_engine() -> None:
    assert born(WORKER, "onnx", HERE).born_of == NAME
    assert born(WORKER, "xgboost", HERE).born_of == ""
    assert born(WORKER, "onnx", {}).born_of == ""
    assert born(WORKER, "onnx", {NAME: replace(HERE[NAME], status="waiting")}).born_of == ""


def pid(processes: Processes, name: str) -> int:
    return processes.states[name].pid if name in processes.states else 0


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def ready(processes: Processes, news: asyncio.Event) -> None:
    """Return when the nursery can bear: another worker of it says so."""
    processes.start(NURSERY)
    await until(news, lambda: pid(processes, NAME) > 0)
    for number in range(100):
        name = f"replica/first/{number}"
        processes.start(ProcessSpec(name, SLEEPER, keep=False, born_of=NAME))
        await until(news, lambda name=name: pid(processes, name) > 0)  # type: ignore[misc]
        was_born = command(pid(processes, name)) == command(pid(processes, NAME))
        processes.stop(name, 5.0)
        await until(news, lambda name=name: name not in processes.states)  # type: ignore[misc]
        if was_born:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("nothing was ever born")


async def log_of(folder: Path, name: str) -> list[str]:
    path = folder / "logs" / f"{name.replace('/', '-')}.log"
    for _ in range(1000):
        if path.exists() and path.read_text().endswith("\n"):
            break
        await asyncio.sleep(0.01)
    return path.read_text().splitlines()


def test_a_worker_that_is_born_is_a_child_like_any_other(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        await ready(processes, news)
        processes.start(ProcessSpec(WORKER.name, (*SLEEPER, "the argument"), born_of=NAME))
        await until(news, lambda: pid(processes, WORKER.name) > 0)
        first = pid(processes, WORKER.name)
        assert await log_of(tmp_path, WORKER.name) == [f"born the argument {first} /dev/null"]
        status = Path(f"/proc/{first}/status").read_text().split()
        assert int(status[status.index("PPid:") + 1]) == os.getpid()
        os.kill(first, signal.SIGKILL)
        await until(news, lambda: pid(processes, WORKER.name) not in (0, first))
        state = processes.states[WORKER.name]
        assert (state.exits, state.exit_code, state.status) == (1, -signal.SIGKILL, "running")
        assert command(state.pid) != command(pid(processes, NAME))  # it begins from nothing
        processes.stop(WORKER.name, 5.0)
        await until(news, lambda: WORKER.name not in processes.states)
        assert not Path(f"/proc/{state.pid}").exists()

    run(tmp_path, scenario)


def test_what_was_imported_is_counted_once(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        await ready(processes, news)
        names = [f"replica/{letter}/1/0" for letter in "ab"]
        for name in names:
            processes.start(ProcessSpec(name, SLEEPER, born_of=NAME))
        for name in names:
            await until(news, lambda name=name: pid(processes, name) > 0)  # type: ignore[misc]
            await log_of(tmp_path, name)
        imports = "import mofang.surface.server.nursery, onnxruntime, signal; print(1, flush=True); signal.pause()"
        processes.start(ProcessSpec("alone", ("-c", imports)))
        assert await log_of(tmp_path, "alone") == ["1"]
        memory, alone = Memory(), pid(processes, "alone")
        assert 0 < memory.held(pid(processes, names[0])) < memory.held(alone) / 2
        processes.stop("alone", 5.0)
        await until(news, lambda: "alone" not in processes.states)
        assert memory.held(alone) == 0

    run(tmp_path, scenario)


def test_workers_outlive_the_nursery_and_those_that_come_next_are_started_as_ever(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        await ready(processes, news)
        processes.start(replace(WORKER, born_of=NAME))
        await until(news, lambda: pid(processes, WORKER.name) > 0)
        living = pid(processes, WORKER.name)
        os.kill(pid(processes, NAME), signal.SIGKILL)
        processes.start(replace(WORKER, name="replica/b/1/0", born_of=NAME))
        await until(news, lambda: pid(processes, "replica/b/1/0") > 0)
        assert command(pid(processes, "replica/b/1/0")).split(b"\0")[1:3] == [part.encode() for part in SLEEPER]
        assert pid(processes, WORKER.name) == living
        await until(news, lambda: pid(processes, NAME) > 0)  # and it comes back

    run(tmp_path, scenario)


def test_a_worker_that_finds_no_nursery_starts_as_ever(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(replace(WORKER, born_of=NAME))
        await until(news, lambda: pid(processes, WORKER.name) > 0)

    run(tmp_path, scenario)


def test_many_are_born_at_once(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        await ready(processes, news)
        names = [f"replica/m{number}/1/0" for number in range(20)]
        for name in names:
            processes.start(ProcessSpec(name, (*SLEEPER, name), born_of=NAME))
        await until(news, lambda: all(pid(processes, name) for name in names))
        for name in names:
            assert await log_of(tmp_path, name) == [f"born {name} {pid(processes, name)} /dev/null"]

    run(tmp_path, scenario)


KILLED = """
import asyncio, sys
from pathlib import Path
from mofang.surface.server.restarts import ProcessSpec
from mofang.surface.server.supervisor import Supervisor

async def main():
    supervisor = Supervisor(Path(sys.argv[1]))
    supervisor.start(ProcessSpec("nursery/onnx", ("-c", sys.argv[2], "onnx"), nursery=True))
    for number in range(200):
        await asyncio.sleep(0.1)
        supervisor.start(ProcessSpec(f"replica/{number}", ("-c", "pass", "it"), keep=False, born_of="nursery/onnx"))
        await asyncio.sleep(0.1)
        log = Path(sys.argv[1]) / f"replica-{number}.log"
        if log.exists() and "born" in log.read_text():
            print(log.read_text().split()[2], flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_was_born_ends_when_the_server_is_killed(tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, BEARS], stdout=subprocess.PIPE)
    with server:
        assert server.stdout is not None
        born = Path(f"/proc/{int(server.stdout.readline())}")
        assert born.exists()
        server.kill()
    for _ in range(200):
        if not born.exists() or "\nState:\tZ" in (born / "status").read_text():
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("it lives on")


def test_orphans_that_end_are_let_go(tmp_path: Path) -> None:
    leaves = "import os, time; pid = os.fork(); pid or (time.sleep(0.3), os._exit(0)); print(pid, flush=True)"

    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        await ready(processes, news)  # from then on orphans come to us
        processes.start(ProcessSpec("leaves", ("-c", leaves), keep=False))
        await until(news, lambda: "leaves" in processes.states and processes.states["leaves"].status == "exited")
        orphan = Path("/proc") / (await log_of(tmp_path, "leaves"))[0]
        assert orphan.exists()
        for _ in range(400):
            if not orphan.exists():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it is kept")

    run(tmp_path, scenario)


@pytest.mark.parametrize("engine", ["sklearn", "xgboost"])
def test_engines_compute_after_a_fork(engine: str) -> None:
    fork(engine)
