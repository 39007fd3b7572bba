"""The how-to that leads from an empty server to an invoice and a log that catches a forger, typed as it stands."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from pages import Step, settled, steps_of, type_in

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sell-a-model.md"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What the reader's shell has: the command, and nothing that was there before."""
    command = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        "PATH": command,
        "MOFANG_DATA": str(tmp_path / "data"),
        "MOFANG_HTTP": f"127.0.0.1:{free_port()}",
        "MOFANG_GRPC": f"127.0.0.1:{free_port()}",
    }


def test_the_page_does_what_it_says(tmp_path: Path, environ: dict[str, str]) -> None:
    steps = steps_of(PAGE.read_text("utf-8"))
    assert sum(step.shown is not None for step in steps) >= 11
    try:
        printed = type_in(steps, tmp_path, environ)
    finally:
        type_in([Step("mofang down", None)], tmp_path, environ)
    assert len(printed) == len(steps), printed[-1]
    for step, (text, status) in zip(steps, printed, strict=True):
        assert (status != 0) is step.fails, (step.command, text)
        if step.shown is not None:
            assert settled(text) == settled(step.shown), step.command
    assert sum(step.fails for step in steps) == 2, "the key that hits its limit, and the forged record"
