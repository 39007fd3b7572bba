"""A server that an engine starts and looks after: started again when it dies, ended with the engine's own process."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

from mofang.base.domain.errors import EngineLoadFailed, MofangError

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 60.0
_WELL_SECONDS = 60.0  # after which a life counts as a good one
_libc = ctypes.CDLL(None)


class Child:
    """One server on a port of the loopback. ``port`` is 0 while it cannot be asked."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        environ: Mapping[str, str],
        ready: Callable[[int], bool],
        patience_seconds: float,
    ) -> None:
        """Start what ``command`` says for a port, and wait until it is ``ready`` there. Raises EngineLoadFailed."""
        self._command, self._environ, self._ready = command, dict(environ), ready
        self._patience_seconds = patience_seconds
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        begun: Future[None] = Future()
        self._watcher = threading.Thread(target=self._watch, args=(begun,), name="looks after the server", daemon=True)
        self._watcher.start()
        begun.result()

    @property
    def pid(self) -> int:
        """Of the process that runs, or ran last."""
        return self._process.pid if self._process else 0

    def close(self) -> None:
        """End it; it is not started again."""
        self._closing.set()
        self._end()
        self._watcher.join()
        self._end()  # one that was started meanwhile

    def _start(self) -> int:
        """Start it, and return its port when it can be asked."""
        port = _free_port()
        command = self._command(port)
        parent = os.getpid()
        try:
            self._process = subprocess.Popen(
                command, env=self._environ, stdin=subprocess.DEVNULL, start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )  # fmt: skip
        except OSError as error:
            raise EngineLoadFailed(f"{command[0]!r} cannot be started: {error.strerror}", hint="install it") from error
        until = time.monotonic() + self._patience_seconds
        while not self._ready(port):
            if (status := self._process.poll()) is not None:
                raise EngineLoadFailed(f"{command[0]!r} ended with status {status} before it could be asked")
            if time.monotonic() > until or self._closing.wait(_LOOK_SECONDS):
                raise EngineLoadFailed(f"{command[0]!r} could not be asked after {self._patience_seconds:.0f} s")
        return port

    def _watch(self, begun: Future[None]) -> None:
        """Start it, and again whenever it dies, after a pause that grows while it keeps dying.

        All in one thread that lives as long as the process: the kernel ends a child with the thread that started it.
        """
        pause = _FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            started = time.monotonic()
            try:
                self.port = self._start()
            except MofangError as error:
                self._end()
                if not begun.done():
                    begun.set_exception(error)
                    return
            else:
                if not begun.done():
                    begun.set_result(None)
                assert self._process is not None
                self._process.wait()
                self.port = 0
                _signal(self._process.pid, signal.SIGKILL)  # what it had started may outlive it, and hold its memory
            pause = _FIRST_PAUSE_SECONDS if time.monotonic() - started > _WELL_SECONDS else pause
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _end(self) -> None:
        """End it with all that it started: kindly, then at once."""
        process = self._process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                _signal(process.pid, number)
                try:
                    process.wait(_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        _signal(process.pid, signal.SIGKILL)  # what is left of its group


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def _die_with(parent: int) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # it has children of its own to end
    if os.getppid() != parent:
        os._exit(1)
