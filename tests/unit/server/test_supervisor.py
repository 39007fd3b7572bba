"""The supervisor with real children."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mofang.surface.server.processes import Processes
from mofang.surface.server.restarts import ProcessSpec
from mofang.surface.server.supervisor import Supervisor

WRITES_PID = 'import os, signal, sys; open(sys.argv[1], "w").write(str(os.getpid())); signal.pause()'
SLEEPER = ("-c", "import signal; signal.pause()")
STUBBORN = """
import signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write("deaf now")
signal.pause()
"""


@asynccontextmanager
async def supervised(
    folder: Path, window_seconds: float = 60.0
) -> AsyncIterator[tuple[Supervisor, Processes, asyncio.Event]]:
    (folder / "logs").mkdir()
    supervisor, news = Supervisor(folder / "logs", window_seconds), asyncio.Event()
    await supervisor.listen(folder / "s.sock")
    processes = await Processes.connect(folder / "s.sock", news.set)
    try:
        yield supervisor, processes, news
    finally:
        await processes.close()
        await supervisor.stop_all("", 1.0)
        await supervisor.close()


async def until(news: asyncio.Event, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            news.clear()
            await news.wait()


def run(
    folder: Path,
    scenario: Callable[[Supervisor, Processes, asyncio.Event], Awaitable[None]],
    window_seconds: float = 60.0,
) -> None:
    async def main() -> None:
        async with supervised(folder, window_seconds) as (supervisor, processes, news):
            await scenario(supervisor, processes, news)

    asyncio.run(main())


def test_a_killed_process_is_started_again_at_once(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(ProcessSpec("worker", SLEEPER))
        await until(news, lambda: "worker" in processes.states and processes.states["worker"].pid > 0)
        first = processes.states["worker"].pid
        os.kill(first, signal.SIGKILL)
        await until(news, lambda: processes.states["worker"].pid not in (0, first))
        state = processes.states["worker"]
        assert (state.exits, state.exit_code, state.status) == (1, -signal.SIGKILL, "running")

    run(tmp_path, scenario)


def test_an_end_that_no_longer_counts_is_told_though_nothing_else_happens(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(ProcessSpec("worker", SLEEPER))
        await until(news, lambda: "worker" in processes.states and processes.states["worker"].pid > 0)
        os.kill(processes.states["worker"].pid, signal.SIGKILL)
        await until(news, lambda: processes.states["worker"].exits == 1)
        await until(news, lambda: processes.states["worker"].exits == 0)
        assert processes.states["worker"].status == "running"

    run(tmp_path, scenario, window_seconds=2.0)


def test_a_stopped_process_ends_and_is_forgotten(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(ProcessSpec("worker", SLEEPER))
        await until(news, lambda: "worker" in processes.states and processes.states["worker"].pid > 0)
        pid = processes.states["worker"].pid
        processes.stop("worker", 5.0)
        await until(news, lambda: "worker" not in processes.states)
        assert not Path(f"/proc/{pid}").exists()

    run(tmp_path, scenario)


def test_a_process_deaf_to_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        supervisor.start(ProcessSpec("deaf", ("-c", STUBBORN, str(fifo))))
        assert await asyncio.to_thread(fifo.read_text) == "deaf now"
        await supervisor.stop("deaf", 0.2)
        assert supervisor.state("deaf") is None

    run(tmp_path, scenario)


def test_a_process_that_runs_once_stays_known_until_it_is_taken_away(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(ProcessSpec("job/1", ("-c", "raise SystemExit(3)"), keep=False))
        await until(news, lambda: "job/1" in processes.states and processes.states["job/1"].status == "exited")
        assert processes.states["job/1"].exit_code == 3
        processes.stop("job/1", 1.0)
        await until(news, lambda: "job/1" not in processes.states)

    run(tmp_path, scenario)


def test_children_outlive_the_client_that_asked_for_them(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        other = await Processes.connect(tmp_path / "s.sock", lambda: None)
        other.start(ProcessSpec("worker", SLEEPER))
        await until(news, lambda: "worker" in processes.states)
        await other.close()
        again = await Processes.connect(tmp_path / "s.sock", lambda: None)
        assert "worker" in again.states
        await again.close()

    run(tmp_path, scenario)


def test_the_python_of_the_parent_is_the_python_of_the_children(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        processes.start(ProcessSpec("who", ("-c", "import sys; print(sys.executable)"), keep=False))
        await until(news, lambda: "who" in processes.states and processes.states["who"].status == "exited")
        assert (tmp_path / "logs" / "who.log").read_text().strip() == sys.executable

    run(tmp_path, scenario)


def test_a_process_stopped_while_it_starts_is_not_lost(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        for attempt in range(10):
            pid_file = tmp_path / f"pid{attempt}"
            supervisor.start(ProcessSpec("worker", ("-c", WRITES_PID, str(pid_file))))
            await asyncio.sleep(0)
            await supervisor.stop("worker", 5.0)
            assert supervisor.state("worker") is None
            assert not pid_file.exists() or not Path(f"/proc/{pid_file.read_text()}").exists()

    run(tmp_path, scenario)


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    async def scenario(supervisor: Supervisor, processes: Processes, news: asyncio.Event) -> None:
        tmp_path.joinpath("logs").rmdir()  # no log, no process
        processes.start(ProcessSpec("worker", SLEEPER))
        await until(news, lambda: "worker" in processes.states and processes.states["worker"].exits > 0)
        tmp_path.joinpath("logs").mkdir()
        await until(news, lambda: processes.states["worker"].pid > 0)

    run(tmp_path, scenario)
