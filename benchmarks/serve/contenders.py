"""The servers that are compared: how each is started, pinned to one core, and stopped."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import environments
import machine
from load import PATH

from models import Model

# PyTriton's own processes load the interpreter as a library, and would take another of the system's.
_PEER_ENVIRON = {**os.environ, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
_PEERS = Path(__file__).with_name("peers")
_START_SECONDS = 30.0
_PEER_START_SECONDS = 120.0


class Contender:
    """One server on one core; ``key`` is sent by its clients."""

    def __init__(self, name: str, core: int, command: list[str]) -> None:
        self.name = name
        self.key = ""
        self.port, self.grpc_port = _free_port(), 0
        self._journal: Path | None = None
        self._command = ["taskset", "-c", str(core), sys.executable, *command]

    def request(self, model: Model, form: str) -> tuple[str, dict[str, str], bytes]:
        """Return path, header fields and body of one inference."""
        asked = {"JSON": model.json_request, "binary": model.binary_request, "gRPC": model.grpc_request}[form]
        return PATH, {**asked[0], **({"authorization": f"Bearer {self.key}"} if self.key else {})}, asked[1]

    def speaks(self, form: str) -> bool:
        """Tell whether it can be asked so."""
        return form != "gRPC" or bool(self.grpc_port)

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
        self._folder.mkdir(exist_ok=True)
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


class PeerSilent(Exception):
    """A peer does not start; the message is what it said."""


class Peer(Contender):
    """A server that installs from a package, in an environment of its own. Raises NotInstalled."""

    def __init__(self, core: int, model: Model, folder: Path, scratch: Path, peer: str) -> None:
        interpreter = environments.python(peer)
        super().__init__(f"{peer} {environments.version(peer)}", core, [])
        self._oip = peer in ("mlserver", "pytriton")  # the others take JSON of their own kind
        self._model = model
        self._log = scratch / f"{peer}.log"
        app = str(_PEERS / f"{peer}_app.py")
        self._command = ["taskset", "-c", str(core), str(interpreter), app, str(folder), str(self.port)]

    def request(self, model: Model, form: str) -> tuple[str, dict[str, str], bytes]:
        """See :meth:`Contender.request`."""
        return super().request(model, form) if self._oip else ("/predict", *model.rows_request)

    def speaks(self, form: str) -> bool:
        """See :meth:`Contender.speaks`."""
        return form == "JSON"

    def start(self) -> None:
        """Start and wait until it answers; raise PeerSilent with the last it said if it does not."""
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=_PEER_ENVIRON)
        path, headers, body = self.request(self._model, "JSON")
        until = time.monotonic() + _PEER_START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                if answer.status == 200 and b"[" in answer.read():
                    return
            time.sleep(0.3)
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip(" ;")]
        self.stop()
        raise PeerSilent(next((line for line in reversed(said) if "Error" in line), (said or ["nothing"])[-1]))

    def stop(self) -> None:
        """End all of its processes."""
        for pid in machine.tree(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


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
