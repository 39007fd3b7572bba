"""Start and stop a server: what `mofang up` and `mofang down` do. Who calls :func:`up` becomes the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvloop

from mofang.base.domain.errors import MofangError, PortInUse, ServerFailed
from mofang.base.domain.names import now_us
from mofang.surface.server.child import REFUSED, read_refusal, write_refusal
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.restarts import ProcessSpec
from mofang.surface.server.settings import Settings, split_address
from mofang.surface.server.supervisor import Supervisor

_READY_SECONDS = 60.0
_START_ATTEMPTS = 3
_POLL_SECONDS = 0.05
_BACKLOG = 4096
_LEAVING_SECONDS = 5.0  # how long the port of a killed server is waited for: its children are just dying


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server that just became ready tells about itself."""

    http_url: str
    grpc_address: str
    data: Path
    admin_key: str | None  # only when it was made just now
    pid: int
    seconds: float


def up(settings: Settings, *, detach: bool, on_ready: Callable[[Ready], None]) -> int:
    """Run a server until SIGTERM or Ctrl-C, or leave one running if ``detach``; return the exit code.

    Raises DataDirectoryUnusable, DataDirectoryInUse, PortInUse or what a part of the server refused to start with.
    """
    folders = DataDirectory(settings.data)
    folders.prepare()
    if detach:
        on_ready(_detached(settings, folders))
        return 0
    lock = folders.lock()
    try:
        return uvloop.run(_Tree(settings, folders).run(on_ready))
    finally:
        os.close(lock)


def down(settings: Settings, timeout_seconds: float) -> bool:
    """Stop the server of a data directory, draining; return whether one ran. Raises ServerFailed if it stays."""
    folders = DataDirectory(settings.data)
    if not folders.root.exists() or not folders.is_locked():
        return False
    pid = (folders.read_running() or {}).get("pid")
    if pid is None:
        raise ServerFailed(f"a server holds {folders.root} but has not said its pid", hint="is it still starting?")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + timeout_seconds
    while folders.is_locked():
        if time.monotonic() > until:
            raise ServerFailed(f"the server (pid {pid}) has not stopped within {timeout_seconds:.0f} s")
        time.sleep(_POLL_SECONDS)
    return True


def running(settings: Settings) -> dict[str, Any] | None:
    """Return what the server of a data directory says about itself (pid, http, grpc, started_at), if one runs."""
    folders = DataDirectory(settings.data)
    return folders.read_running() if folders.root.exists() and folders.is_locked() else None


class _Tree:
    """The supervisor of one server: its children in the order in which they start and stop."""

    def __init__(self, settings: Settings, folders: DataDirectory) -> None:
        self._settings = settings
        self._folders = folders
        self._supervisor = Supervisor(folders.logs)
        self._refusal = folders.sockets / "refusal.json"

    async def run(self, on_ready: Callable[[Ready], None]) -> int:
        started = time.monotonic()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        until = started + (_LEAVING_SECONDS if self._folders.running.exists() else 0.0)
        self._folders.running.unlink(missing_ok=True)
        http = await _bind("http", self._settings.http, until)
        grpc_address = await _free_address("grpc", self._settings.grpc, until)
        os.environ.update(_environment(self._settings, grpc_address))
        self._refusal.unlink(missing_ok=True)
        had_key = self._folders.admin_key.exists()
        try:
            await self._supervisor.listen(self._folders.sockets / "supervisor.sock")
            await self._start(http, stop)
            url = f"http://{_shown(http)}"
            if not stop.is_set():
                self._tell(url, grpc_address, started, had_key, on_ready)
            await stop.wait()
        finally:
            await self._stop()
            http.close()
        return 0

    async def _start(self, http: socket.socket, stop: asyncio.Event) -> None:
        self._supervisor.start(ProcessSpec("controller", ("-m", "mofang.surface.server.controller")))
        for index in range(self._settings.gateways):
            argv = ("-m", "mofang.surface.server.gateway", f"gateway-{index}", str(http.fileno()))
            self._supervisor.start(ProcessSpec(f"gateway-{index}", argv), pass_fds=(http.fileno(),))
        await self._wait_ready(f"http://{_shown(http)}", stop)

    async def _wait_ready(self, url: str, stop: asyncio.Event) -> None:
        until = time.monotonic() + _READY_SECONDS
        async with httpx.AsyncClient(base_url=url, timeout=2.0, trust_env=False) as client:
            while not stop.is_set():
                if (refusal := read_refusal(self._refusal)) is not None:
                    raise refusal
                self._check_alive()
                with suppress(httpx.TransportError):
                    if await _answers(client):
                        return
                if time.monotonic() > until:
                    raise ServerFailed(
                        f"the server was not ready within {_READY_SECONDS:.0f} s", hint=f"see {self._folders.logs}"
                    )
                await asyncio.sleep(_POLL_SECONDS)

    def _check_alive(self) -> None:
        """Give up on a part that dies again and again, with the last it said, instead of waiting for it."""
        for state in self._supervisor.states():
            if state.exits >= _START_ATTEMPTS:
                log = self._folders.logs / f"{state.name}.log"
                last = log.read_text(errors="replace").strip().rpartition("\n")[2][:300]
                raise ServerFailed(f"{state.name} does not start: {last}", hint=f"see {log}")

    def _tell(
        self, url: str, grpc_address: str, started: float, had_key: bool, on_ready: Callable[[Ready], None]
    ) -> None:
        about = {"pid": os.getpid(), "http": url, "grpc": grpc_address, "started_at": now_us()}
        self._folders.write_private(self._folders.running, msgspec.json.encode(about).decode())
        key = None if had_key else self._folders.admin_key.read_text().strip()
        seconds = time.monotonic() - started
        on_ready(Ready(url, grpc_address, self._settings.data, key, os.getpid(), seconds))

    async def _stop(self) -> None:
        """Let requests end before the workers that answer them, and usage be settled before the controller goes."""
        grace = self._settings.drain_seconds + 5.0
        await self._supervisor.stop_all("gateway-", grace)
        await self._supervisor.stop_all("job/", 10.0)
        await self._supervisor.stop("controller", 20.0)
        await self._supervisor.stop_all("replica/", 5.0)
        await self._supervisor.stop_all("nursery/", 5.0)
        await self._supervisor.close()
        self._folders.running.unlink(missing_ok=True)


async def _answers(client: httpx.AsyncClient) -> bool:
    """Tell whether inference is ready, and the controller answers: that it does not know us is an answer."""
    if (await client.get("/v2/health/ready")).status_code != 200:
        return False
    return (await client.get("/api/v1/whoami")).status_code == 401


def _detached(settings: Settings, folders: DataDirectory) -> Ready:
    """Start a supervisor that outlives this process, and wait until it is ready."""
    os.close(folders.lock())  # a second server is refused here, with a sentence
    started, had_key = time.monotonic(), folders.admin_key.exists()
    refusal = folders.sockets / "up.refusal.json"
    refusal.unlink(missing_ok=True)
    with open(folders.logs / "supervisor.log", "ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "mofang.surface.server.launch", str(refusal)],
            env={**os.environ, **_environment(settings, settings.grpc)},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    while (about := folders.read_running()) is None or about["pid"] != child.pid:
        if child.poll() is not None:
            raise read_refusal(refusal) or ServerFailed(
                f"the server ended at once ({child.returncode})", hint=f"see {folders.logs / 'supervisor.log'}"
            )
        time.sleep(_POLL_SECONDS)
    key = None if had_key else folders.admin_key.read_text().strip()
    seconds = time.monotonic() - started
    return Ready(about["http"], about["grpc"], settings.data, key, about["pid"], seconds)


def _environment(settings: Settings, grpc_address: str) -> dict[str, str]:
    values = {spec.name: str(getattr(settings, spec.name)) for spec in fields(settings)}
    values["grpc"] = grpc_address
    return {f"MOFANG_{name.upper()}": value for name, value in values.items()}


async def _bind(name: str, address: str, until: float) -> socket.socket:
    """Bind and listen before any child runs: a taken port is refused, and a gateway's restart loses nobody.

    A port in use is tried again ``until`` then, on time.monotonic().
    """
    while True:
        try:
            return _listening(name, address)
        except PortInUse:
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(_POLL_SECONDS)


def _listening(name: str, address: str) -> socket.socket:
    host, port = split_address(name, address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(f"cannot listen on {address} for {name}: {error.strerror}") from error
    listener.listen(_BACKLOG)
    return listener


async def _free_address(name: str, address: str, until: float) -> str:
    """Return ``address`` with its port made certain; raise PortInUse if another program has it."""
    with await _bind(name, address, until) as listener:
        return _shown(listener)


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def main() -> int:
    """Run a detached server with the settings of the environment; refuse into the file named on the command line."""
    try:
        return up(Settings.load(), detach=False, on_ready=lambda _: None)
    except MofangError as error:
        write_refusal(Path(sys.argv[1]), error)
        return REFUSED


if __name__ == "__main__":
    sys.exit(main())
