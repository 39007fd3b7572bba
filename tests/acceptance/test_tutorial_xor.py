"""The tutorial of a network from first principles: every command on the page is typed, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "network-from-scratch.md"


@pytest.mark.trains("function")
@pytest.mark.timeout(240)
def test_the_commands_of_the_page_do_what_it_shows(tmp_path: Path) -> None:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    commands = [line.removeprefix("$ ") for line in "".join(blocks).splitlines() if line.startswith("$ ")]
    assert len(commands) == 9
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOFANG_DATA": str(tmp_path / "data"),
        "MOFANG_HTTP": "127.0.0.1:0",
        "MOFANG_GRPC": "127.0.0.1:0",
        "HOME": str(tmp_path),
    }
    script = "set -e\ntrap 'mofang down > /dev/null 2>&1' EXIT\n" + "\n".join(commands)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in ("registered xor@1", "passed: accuracy >= 0.98", "[0 1 1 0]", "default owes 0.0008"):
        assert shown in done.stdout
