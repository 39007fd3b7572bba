"""How the supervisor has workers born of a nursery, and keeps a process that it did not start itself.

A nursery forks twice, so that the kernel gives the worker to the supervisor, its nearest ancestor that takes orphans
(``PR_SET_CHILD_SUBREAPER``). Between the two is a pair of sockets: down go lines of JSON, each a :class:`Birth`; up
come lines, :data:`READY` first, then for each birth the number of its process, written by that process, or
:data:`FAILED`.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import msgspec

READY = b"ready\n"
FAILED = b"0\n"
_SECONDS = 20.0  # within which a process is born, on the busiest machine
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Birth:
    """The argument of the worker, and the file that it logs to."""

    argument: str
    log: str


def read_births(channel: socket.socket) -> Iterator[Birth]:
    """Yield what a nursery is told, until the supervisor is gone."""
    with suppress(ConnectionError), channel.makefile("rb") as lines:
        for line in lines:
            yield msgspec.json.decode(line, type=Birth)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, so that a killed server leaves nothing running.

    One whose parent died before that would be an orphan for ever: it ends here.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans(*, adopt: bool) -> None:
    """Become the parent of every descendant whose own parent ends, or no longer."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))


def reap(known: set[int]) -> None:
    """Let orphans that ended go. ``known`` are children that somebody else waits for."""
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{task}/children") as children:
            for pid in {*map(int, children.read().split())} - known:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


class Nursery:
    """The supervisor's end of the sockets to one nursery."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ready = False
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Begin to listen, once the process has the other end."""
        self.theirs.close()
        self._streams = await asyncio.open_connection(sock=self._ours)

    async def bear(self, birth: Birth) -> Born | None:
        """Return the process; None if the nursery has not imported yet, has died or cannot fork."""
        async with self._turn:
            if self._streams is None:
                return None
            reader, writer = self._streams
            try:
                if not self._ready and not await self._is_ready(reader):
                    return None
                writer.write(msgspec.json.encode(birth) + b"\n")
                async with asyncio.timeout(_SECONDS):
                    line = await reader.readline()
            except (ConnectionError, TimeoutError):
                self.close()  # one that is born all the same finds nobody to tell its number, and ends
                return None
            return _adopted(int(line or FAILED))

    async def _is_ready(self, reader: asyncio.StreamReader) -> bool:
        """Tell whether it said so, without waiting for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                self._ready = await reader.readline() == READY
        return self._ready

    def close(self) -> None:
        """Hang up; the nursery ends. Calling it again does nothing."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Born:
    """A process of ours that another forked, with what the supervisor asks of one that it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._descriptor = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    async def wait(self) -> int:
        """Return its exit code, negative for a signal, when it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


def _adopted(pid: int) -> Born | None:
    try:
        return Born(pid) if pid else None
    except OSError:  # this kernel has no descriptors of processes, or there are no more: it cannot be waited for
        os.kill(pid, signal.SIGKILL)
        return None
