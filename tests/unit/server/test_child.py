"""What every child process does first and last."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from mofang.surface.server.child import trim

PIECES, PIECE_BYTES = 20_000, 3_000  # larger than what Python keeps itself, smaller than what is mapped for itself


def resident_bytes() -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_memory_that_is_free_between_what_is_not_is_given_back() -> None:
    pieces = [bytes(PIECE_BYTES) for _ in range(PIECES)]
    kept = pieces[::50]
    pieces.clear()
    before = resident_bytes()
    trim()
    assert before - resident_bytes() > PIECES * PIECE_BYTES / 2
    assert len(kept) == PIECES / 50
