"""Writing on a socket: all that one turn of the event loop brings goes out in one write. Used by both ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mofang.base.placement.frames import Buffer

WRITE_BUFFER_BYTES = 1 << 20  # written but not yet taken by the other end, before writing pauses


class Outbox:
    """Collects pieces of frames and writes them when the turn of the event loop ends."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._pieces: list[Buffer] = []
        self._scheduled = False
        self._closed = False

    def add(self, piece: Buffer) -> None:
        """Write ``piece`` at the end of this turn."""
        self.extend((piece,))

    def extend(self, pieces: Iterable[Buffer]) -> None:
        """Write ``pieces`` at the end of this turn."""
        self._pieces += pieces
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def hold(self, pieces: Iterable[Buffer]) -> None:
        """Write ``pieces`` with the next :meth:`flush`, which the caller sees to."""
        self._pieces += pieces

    def flush(self) -> None:
        """Write now."""
        self._scheduled = False
        pieces, self._pieces = self._pieces, []
        if pieces and not self._closed:
            write(self._transport, pieces)

    def close(self) -> None:
        """Forget what was not written: the connection is gone."""
        self._closed = True
        self._pieces.clear()


def write(transport: asyncio.Transport, pieces: list[Buffer]) -> None:
    """Write ``pieces`` in one go; large tensors among them are not copied."""
    if memoryview in map(type, pieces):
        transport.writelines(pieces)
    else:
        transport.write(b"".join(pieces))
