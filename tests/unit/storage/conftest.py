from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def run_child() -> Callable[..., list[str]]:
    """Run a program in a process of its own, whose limits and rights it may change; return the lines it printed."""

    def run(program: str, *arguments: str | Path) -> list[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert not done.stderr, done.stderr
        return done.stdout.splitlines()

    return run
