"""A real server in a process tree of its own, as a user starts it, for acceptance tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        self._through = through  # a command that becomes what follows it
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
        command = [*self._through, str(Path(sys.executable).with_name("mofang")), "up", "--data", str(self.data)]
        command += ["--http", self._http, "--grpc", self._grpc, *self._arguments]
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env={**os.environ, **self._environ}, start_new_session=True
            )
            about = self._wait_ready(folders)
            if about is None:
                output.seek(0)
                raise AssertionError(f"the server did not start: {output.read().decode()}")
        self._http, self._grpc = about["http"].removeprefix("http://"), about["grpc"]
        self.url, self.grpc = about["http"], about["grpc"]
        self.key = folders.admin_key.read_text().strip()
        self.client = Client(self.url, self.key, grpc=self.grpc)
        return time.monotonic() - began

    def _wait_ready(self, folders: DataDirectory) -> dict[str, str] | None:
        """Return what the server says of itself when it is ready; None if it ended."""
        assert self._process is not None
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < until, f"the server is not ready after {START_SECONDS} s"
            about = folders.read_running()
            if about is not None and about["pid"] == self._process.pid:  # not what a killed server has left
                return about
            time.sleep(0.02)
        return None

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

    def usage_of(self, request: str) -> dict[str, int]:
        """Return the quantities of one request, as soon as they are in the ledger."""
        found: dict[str, int] = {}

        def there() -> bool:
            found.update({event.meter: event.quantity for event in self.client.meter.events(request_id=request)})
            return bool(found)

        wait_until(there, 20, f"the usage of {request}")
        return found

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


@contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Server]]:
    """Give a function that starts servers (arguments, environment), and end them all."""
    started: list[Server] = []

    def start(*arguments: str, **environ: str) -> Server:
        started.append(Server(folder / f"data{len(started)}", *arguments, environ=environ))
        return started[-1]

    try:
        yield start
    finally:
        for running in started:
            running.close()


def wait_until(holds: Callable[[], bool], seconds: float, what: str = "") -> float:
    """Look every 20 ms until ``holds``; return the seconds it took, or fail after ``seconds``."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what or holds}"
        time.sleep(0.02)
    return time.monotonic() - began
