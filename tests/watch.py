"""Whether somebody, in whatever process, has opened or read a file: the kernel tells (inotify).

The time of reading would prove nothing: many file systems are mounted so that it is not kept.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_OPENED, _READ = 0x20, 0x1  # IN_OPEN, IN_ACCESS of inotify(7)
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Watches one file from now on."""

    def __init__(self, file: Path) -> None:
        self._events = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._events < 0 or _libc.inotify_add_watch(self._events, os.fsencode(file), _OPENED | _READ) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {file}")

    def seen(self) -> int:
        """Return how often the file was opened or read since this was last asked."""
        count = 0
        while True:
            try:
                told = os.read(self._events, 4096)
            except BlockingIOError:
                return count
            while told:
                *_, length = _EVENT.unpack_from(told)
                told = told[_EVENT.size + length :]
                count += 1

    def close(self) -> None:
        """Watch no more."""
        os.close(self._events)
