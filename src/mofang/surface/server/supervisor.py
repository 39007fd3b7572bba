"""The parent of every process: starts them, starts them again when they die, passes signals on, and nothing else.

It keeps no state but its children, so that it has no reason to fail. The controller asks it over a Unix socket for
workers and jobs (:mod:`mofang.surface.server.processes` is the other end); if the controller dies, they go on.
Messages are lines of JSON: an :class:`Order` to here; after every change all states, to every client.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from mofang.base.domain.names import now_us
from mofang.surface.server.births import Birth, Born, Nursery, adopt_orphans, die_with, reap
from mofang.surface.server.restarts import (
    WINDOW_SECONDS,
    ProcessSpec,
    ProcessState,
    ProcessStatus,
    delay,
    describe_exit,
    recent,
)

_LOG_BYTES = 10 << 20
_REAP_SECONDS = 5.0
log = logging.getLogger(__name__)


class Order(msgspec.Struct):
    """What a client asks: exactly one of ``spec`` (start it) and ``name`` (stop it)."""

    spec: ProcessSpec | None = None
    name: str = ""
    grace_seconds: float = 5.0


@dataclass(eq=False)
class _Child:
    spec: ProcessSpec
    pass_fds: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | Born | None = None
    nursery: Nursery | None = None
    keeper: asyncio.Task[None] | None = None
    exits: list[float] = field(default_factory=list)
    exit_code: int = 0
    started_at: int = 0
    stopping: bool = False
    spawning: asyncio.Lock = field(default_factory=asyncio.Lock)

    def state(self, window_seconds: float) -> ProcessState:
        alive = self.process is not None and self.process.returncode is None
        return ProcessState(
            name=self.spec.name,
            status=self._status(alive),
            pid=self.process.pid if alive and self.process else 0,
            exits=len(recent(self.exits, time.monotonic(), window_seconds)),
            exit_code=self.exit_code,
            started_at=self.started_at,
        )

    def _status(self, alive: bool) -> ProcessStatus:
        if self.stopping:
            return "stopping"
        if alive:
            return "running"
        return "exited" if self.keeper is not None and self.keeper.done() else "waiting"


class Supervisor:
    """Keeps children alive; logs of each go to ``logs/<name>.log``. An end counts for ``window_seconds``."""

    def __init__(self, logs: Path, window_seconds: float = WINDOW_SECONDS) -> None:
        self._logs = logs
        self._window_seconds = window_seconds
        self._children: dict[str, _Child] = {}
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._reaping: asyncio.TimerHandle | None = None

    async def listen(self, socket: Path) -> None:
        """Take orders on a Unix socket."""
        socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve_client, path=str(socket))

    def start(self, spec: ProcessSpec, pass_fds: tuple[int, ...] = ()) -> None:
        """Start a process; one of that name that is there already is left as it is."""
        if spec.name in self._children:
            return
        child = _Child(spec, pass_fds)
        self._children[spec.name] = child
        child.keeper = asyncio.create_task(self._keep(child))
        child.keeper.add_done_callback(lambda _: self._tell())

    async def stop(self, name: str, grace_seconds: float) -> None:
        """End a process: SIGTERM, and SIGKILL if it outlasts the grace; then forget it."""
        child = self._children.get(name)
        if child is None or child.stopping:
            return
        child.stopping = True
        self._tell()
        async with child.spawning:  # one that is just being started must not be lost sight of
            keeper = child.keeper
        if child.process is not None and child.process.returncode is None:
            child.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_seconds):
                    await child.process.wait()
            except TimeoutError:
                log.warning("%s outlasted its %.0f s and is killed", name, grace_seconds)
                child.process.kill()
                await child.process.wait()
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        self._children.pop(name, None)
        self._tell()

    async def stop_all(self, prefix: str, grace_seconds: float) -> None:
        """Stop every process whose name begins with ``prefix``, side by side."""
        names = [name for name in self._children if name.startswith(prefix)]
        await asyncio.gather(*(self.stop(name, grace_seconds) for name in names))

    async def close(self) -> None:
        """Stop taking orders."""
        if self._reaping is not None:
            self._reaping.cancel()
            adopt_orphans(adopt=False)
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.close()

    def states(self) -> list[ProcessState]:
        """Return what became of each process."""
        return [child.state(self._window_seconds) for child in self._children.values()]

    def state(self, name: str) -> ProcessState | None:
        """Return what became of one process, if it is known."""
        child = self._children.get(name)
        return child.state(self._window_seconds) if child else None

    async def _keep(self, child: _Child) -> None:
        """Run a child; run it again, with growing pauses, until it is stopped or was to run once."""
        while not child.stopping:
            try:
                process = await self._spawn(child)
            except OSError as error:  # no memory, no descriptors, a full disk: it may pass
                log.error("%s cannot be started: %s", child.spec.name, error)
                child.exit_code = os.EX_OSERR
            else:
                self._tell()
                child.exit_code = await process.wait()
                if child.nursery is not None:
                    child.nursery.close()
            if child.stopping or not child.spec.keep:
                return
            now = time.monotonic()
            child.exits = [*recent(child.exits, now, self._window_seconds), now]
            log.warning("%s ended with %s", child.spec.name, describe_exit(child.exit_code))
            self._tell()
            # Told again when this end no longer counts: whoever gave the process up would never learn it otherwise.
            asyncio.get_running_loop().call_later(self._window_seconds, self._tell)
            await asyncio.sleep(delay(child.exits, now))

    async def _spawn(self, child: _Child) -> asyncio.subprocess.Process | Born:
        async with child.spawning:
            log_file = _log_file(self._logs, child.spec.name)
            # One that died lately begins from nothing: perhaps it cannot bear what its nursery has done.
            died = recent(child.exits, time.monotonic(), self._window_seconds)
            born = None if died else await self._bear(child.spec, log_file)
            child.process = born or await self._execute(child, log_file)
            child.started_at = now_us()
            return child.process

    async def _bear(self, spec: ProcessSpec, log_file: Path) -> Born | None:
        """Have a process born of its nursery, if that can."""
        mother = self._children.get(spec.born_of)
        if mother is None or mother.stopping or mother.nursery is None:
            return None
        return await mother.nursery.bear(Birth(spec.argv[-1], str(log_file)))

    async def _execute(self, child: _Child, log_file: Path) -> asyncio.subprocess.Process:
        nursery = None
        if child.spec.nursery:
            nursery = Nursery()
            if self._reaping is None:
                adopt_orphans(adopt=True)
                self._reap()
        with open(log_file, "ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *child.spec.argv,
                stdin=asyncio.subprocess.DEVNULL if nursery is None else nursery.theirs.fileno(),
                stdout=output, stderr=output, pass_fds=child.pass_fds,
                preexec_fn=partial(die_with, os.getpid()),  # the parent may die before the child could do it itself
            )  # fmt: skip
        if nursery is not None:
            await nursery.open()
            child.nursery = nursery
        return process

    def _reap(self) -> None:
        """Let go what others of our descendants left behind when they ended, from now on again and again."""
        if not any(child.spawning.locked() for child in self._children.values()):  # else one is not known yet
            reap({child.process.pid for child in self._children.values() if child.process is not None})
        self._reaping = asyncio.get_running_loop().call_later(_REAP_SECONDS, self._reap)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        writer.write(_line(self.states()))
        try:
            while line := await reader.readline():
                self._obey(msgspec.json.decode(line, type=Order))
        except ConnectionError:
            pass  # the controller died; it will come back
        finally:
            self._clients.discard(writer)
            writer.close()

    def _obey(self, order: Order) -> None:
        if order.spec is not None:
            self.start(order.spec)
        else:
            task = asyncio.create_task(self.stop(order.name, order.grace_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        line = _line(self.states())
        for client in self._clients:
            client.write(line)


def _line(states: Iterable[ProcessState]) -> bytes:
    return msgspec.json.encode(list(states)) + b"\n"


def _log_file(folder: Path, name: str) -> Path:
    """Return the log of a process; a grown one is put aside, so that logs never fill the disk."""
    path = folder / (name.replace("/", "-") + ".log")
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.old"))
    return path
