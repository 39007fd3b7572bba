"""A23: what is cancelled, times out or dies leaves nothing reserved (short form; ``tests/prove`` has the long one)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nets import slow

from leaks import leaks
from servers import Server


def test_a23_kills_cancels_and_timeouts_leave_nothing_reserved(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server("--gateways", "2")
    server.serve("slow", slow(tmp_path))
    assert leaks(server, requests=300, kills=4)["ok"]
