"""Bare engines as contenders: a process for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from served import Marks

_ENVIRON = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}  # GiB, of which vLLM would take half the memory


class Bare:
    """A bare engine's process."""

    def __init__(self, name: str, model: Path, python: str = sys.executable) -> None:
        command = [python, str(Path(__file__).with_name("bare.py")), name, str(model)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **_ENVIRON},
        )
        self._read()

    def run(self, texts: list[str], tokens: int) -> Marks:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": texts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        marks: Marks = self._read()["marks"]
        return marks

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the engine's process ended"
        found: dict[str, Any] = json.loads(line)
        return found
