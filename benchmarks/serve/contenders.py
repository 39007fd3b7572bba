"""The servers that are compared: how each is started, pinned to one core, and stopped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

_PEERS = Path(__file__).with_name("peers")
_START_SECONDS = 30.0


class Contender:
    """One server on one core; ``key`` is sent by its clients."""

    def __init__(self, name: str, core: int, command: list[str]) -> None:
        self.name = name
        self.key = ""
        self.port, self.grpc_port = _free_port(), 0
        self._journal: Path | None = None
        self._command = ["taskset", "-c", str(core), sys.executable, *command]

    @property
    def pid(self) -> int:
        """The process whose tree is the server."""
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        ports = {"PORT": str(self.port), "GRPC_PORT": str(self.grpc_port)}
        command = [ports.get(part, part) for part in self._command]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not start")

    def tidy(self) -> None:
        """Forget what a slice left behind."""

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class RawAsgi(Contender):
    """The expert's hand-written server."""

    def __init__(self, core: int, model: Path) -> None:
        super().__init__("raw ASGI", core, [str(_PEERS / "raw_asgi.py"), str(model), "PORT"])


class Mofang(Contender):
    """A gateway, and for ``process`` its worker, on the same core."""

    def __init__(self, core: int, model: Path, scratch: Path, placement: str, mode: str) -> None:
        name = f"Mofang {placement}, {mode}"
        self._folder = scratch / f"{model.name}-{placement}-{mode}"
        self._folder.mkdir()
        script = [str(_PEERS / "mofang_gateway.py"), str(model), "PORT", "GRPC_PORT", placement, mode]
        super().__init__(name, core, [*script, str(self._folder / "journal"), str(self._folder / "worker.sock")])
        self.grpc_port = _free_port()

    def _wait(self) -> None:
        assert self._process.stdout is not None
        self.key = self._process.stdout.readline().strip()
        if not self.key:
            raise RuntimeError(f"{self.name} does not start")

    def tidy(self) -> None:
        """Delete the segments that are full; a real server's settler has them folded by and by."""
        for segment in sorted((self._folder / "journal").glob("*.journal"))[:-1]:
            segment.unlink()

    def stop(self) -> None:
        """End it; the worker dies with the gateway."""
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def limit(core: int, model: Path, batch: int, seconds: float) -> float:
    """Rows a second of ONNX Runtime alone."""
    command = [
        "taskset",
        "-c",
        str(core),
        sys.executable,
        str(_PEERS / "limit.py"),
        str(model),
        str(batch),
        str(seconds),
    ]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
