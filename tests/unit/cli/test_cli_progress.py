"""Watching long work: what a person sees, and what a pipe gets."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Site

from mofang.surface.cli.progress import Lines, Pace, counted


def test_a_pace_is_measured_from_what_came_since_the_first_news() -> None:
    pace = Pace(at=100.0, fraction=0.25, count=2)
    assert pace.left(110.0, 0.5) == "20.0 s left"
    assert pace.rate(110.0, {"epoch": 4.0}) == "5.0 s/epoch"
    assert pace.rate(100.5, {"epoch": 4}) == "4.0 epochs/s"
    assert pace.left(130.0, 1.0) == "30.0 s"


def test_nothing_is_said_before_something_is_known() -> None:
    pace = Pace(at=100.0, fraction=0.25, count=2)
    assert pace.left(100.0, 0.25) == ""
    assert pace.left(100.0, 1.0) == "0 µs"
    assert Pace(100.0, 1.0, 0).left(100.0, 1.0) == ""
    assert pace.rate(110.0, {"loss": 0.5}) == ""
    assert pace.rate(110.0, None) == ""


def test_bytes_are_counted_in_bytes() -> None:
    assert Pace(0.0, 0.0, 0).rate(2.0, {"bytes": 3_000_000}) == "1.5 MB/s"
    assert counted({"rows": 3}) == (3, "rows")
    assert counted({"epoch": "three"}) == (0, "")


def test_a_pipe_gets_a_line_for_each_news(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for fraction, note in ((0.0, "begin"), (0.5, "begin"), (0.7, ""), (1.0, "end")):
        lines.show("train", fraction, note)
    assert capsys.readouterr().err.splitlines() == ["  train        0 %  begin", "  train      100 %  end"]


def test_a_terminal_gets_bars(site: Site, tmp_path: Path) -> None:
    recipe = tmp_path / "tree.toml"
    recipe.write_text('name = "tree"\n[prepare]\nsource = ["sklearn:iris"]\n[train]\nalgorithm = "decision_tree"\n')
    environment = {**os.environ, "MOFANG_URL": site.url, "MOFANG_API_KEY": site.house.admin_key, "TERM": "xterm"}
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "mofang.surface.cli", "train", str(recipe)]
    child = subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert child.wait(20) == 0
    assert "━━━━".encode() in seen
    assert b"registered tree@1" in seen
    assert b"\x1b[1m" in seen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side has closed
        return b""
