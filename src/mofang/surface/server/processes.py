"""The controller's view of the supervisor: what runs, and orders to start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from mofang.surface.server.restarts import ProcessSpec, ProcessState
from mofang.surface.server.supervisor import Order

_LINE_BYTES = 16 << 20


class Processes:
    """States of every process, kept current; ``on_change`` is called after each change."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes, on_change: Callable[[], None]
    ) -> None:
        self.states: dict[str, ProcessState] = {}
        self._reader = reader
        self._writer = writer
        self._on_change = on_change
        self._take(first)
        self._listener = asyncio.create_task(self._listen())

    @classmethod
    async def connect(cls, socket: Path, on_change: Callable[[], None]) -> Processes:
        """Connect to the supervisor and learn what runs."""
        reader, writer = await asyncio.open_unix_connection(str(socket), limit=_LINE_BYTES)
        return cls(reader, writer, await reader.readline(), on_change)

    def start(self, spec: ProcessSpec) -> None:
        """Ask for a process; one that is there is left as it is."""
        self._writer.write(msgspec.json.encode(Order(spec=spec)) + b"\n")

    def stop(self, name: str, grace_seconds: float) -> None:
        """Ask for the end of a process."""
        self._writer.write(msgspec.json.encode(Order(name=name, grace_seconds=grace_seconds)) + b"\n")

    async def close(self) -> None:
        """Leave; what runs goes on."""
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        self._writer.close()

    async def _listen(self) -> None:
        while line := await self._reader.readline():
            self._take(line)
            self._on_change()

    def _take(self, line: bytes) -> None:
        self.states = {state.name: state for state in msgspec.json.decode(line, type=list[ProcessState])}
