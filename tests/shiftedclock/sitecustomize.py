"""Sets the wall clock of a server under test: its processes read a shift from a file. Python imports this at start.

A test puts this folder on the server's ``PYTHONPATH`` and names the file in ``MOFANG_TEST_CLOCK``: seconds, as text.
The monotonic clock is left alone, as an administrator or a time server leaves it who sets the other one.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

FILE = os.environ.get("MOFANG_TEST_CLOCK", "")

_time_ns, _monotonic = time.time_ns, time.monotonic


def shift_ns() -> int:
    """Return by how much the wall clock is off, looked up a hundred times a second at most."""
    return _read(int(_monotonic() * 100))


@lru_cache(maxsize=1)
def _read(_: int) -> int:
    with open(FILE) as file:
        return int(float(file.read()) * 1e9)


if FILE:
    time.time_ns = lambda: _time_ns() + shift_ns()
    time.time = lambda: time.time_ns() / 1e9
