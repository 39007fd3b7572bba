"""A real server in a process tree of its own, as a user starts it, for acceptance tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mofang import Client
from mofang.surface.sdk.operate import Process
from mofang.surface.server.folders import DataDirectory

START_SECONDS = 60.0


class Server:
    """``mofang up`` on a data directory and free ports; its client holds the admin key."""

    def __init__(
        self, data: Path, *arguments: str, environ: dict[str, str] | None = None, through: Sequence[str] = ()
    ) -> None:
        self.data = data
        self._through = through  # a command that runs what follows it
        self._arguments = arguments
        self._environ = environ or {}
        self._http = self._grpc = "127.0.0.1:0"
        self._process: subprocess.Popen[bytes] | None = None
        self.client = Client()
        self.start()

    def start(self) -> float:
        """Start, or start again on the same ports; return the seconds until it was ready."""
        began = time.monotonic()
        self.close()
        folders = DataDirectory(self.data)
        folders.running.unlink(missing_ok=True)
        command = [*self._through, str(Path(sys.executable).with_name("mofang")), "up", "--data", str(self.data)]
        command += ["--http", self._http, "--grpc", self._grpc, *self._arguments]
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **self._environ}, start_new_session=True
            )
            wait_until(lambda: folders.running.exists() or self._process.poll() is not None, START_SECONDS)  # type: ignore[union-attr]
            if self._process.poll() is not None:
                output.seek(0)
                raise AssertionError(f"the server did not start: {output.read().decode()}")
        about = folders.read_running() or {}
        self._http, self._grpc = about["http"].removeprefix("http://"), about["grpc"]
        self.url, self.grpc = about["http"], about["grpc"]
        self.key = folders.admin_key.read_text().strip()
        self.client = Client(self.url, self.key, grpc=self.grpc)
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def consumer(self) -> str:
        """Return a new key that may only ask."""
        return self.client.identity.create_key("default").key

    def push(self, name: str, *files: Path) -> str:
        """Register ONNX files; return ``name@number``."""
        job = self.client.jobs.wait(self.client.register.push(name, list(files)).id)
        return f"{name}@{job.result['version']}"

    def serve(self, name: str, *files: Path, **options: object) -> None:
        """Register ONNX files and deploy them as endpoint ``name``."""
        self.client.deploy.roll_out(name, self.push(name, *files), **options)  # type: ignore[arg-type]

    def process(self, prefix: str) -> Process:
        """Return the first process whose name begins with ``prefix``."""
        return next(each for each in self.client.operate.status().processes if each.name.startswith(prefix))

    def terminate(self, timeout_seconds: float = 45.0) -> int:
        """Stop as a service manager would; return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_seconds)

    def wait(self, timeout_seconds: float = 45.0) -> int:
        """Wait for the end; return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout_seconds)

    def kill(self) -> None:
        """Kill the supervisor, as the kernel would when memory is short; the tree dies with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def close(self) -> None:
        """End whatever still runs."""
        self.client.close()
        if self._process is not None and self._process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()


def wait_until(holds: Callable[[], bool], seconds: float, what: str = "") -> float:
    """Look every 20 ms until ``holds``; return the seconds it took, or fail after ``seconds``."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what or holds}"
        time.sleep(0.02)
    return time.monotonic() - began
