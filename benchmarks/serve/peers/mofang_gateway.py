"""A Mofang gateway as ``surface/server/gateway.py`` puts it together, on a Snapshot made by hand instead of the link.

    python mofang_gateway.py MODEL_FOLDER PORT GRPC_PORT thread|process governed|bare JOURNAL_FOLDER WORKER_SOCKET

``governed``: keys, roles, limits, usage records in a journal, counters: what every request of a real server passes.
``bare``: the same objects, but everybody is the same principal and nothing is recorded or counted; only a benchmark
does that.
Prints the key when it is ready.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from mofang.base.domain.access import KeyEntry, Principal
from mofang.base.domain.deployment import EndpointRoutes, ReplicaLimits, ReplicaSpec, Revision, Route, Snapshot
from mofang.base.engines.catalog import load_engine
from mofang.base.identity.keys import new_key
from mofang.base.placement.process import ProcessPlacement
from mofang.base.placement.thread import ThreadPlacement
from mofang.base.storage.journal import JournalWriter
from mofang.base.storage.once import Once
from mofang.run.serve.admitting import UNBOUNDED
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.generate import Generator
from mofang.run.serve.lane import Lane
from mofang.sell.meter.admission import Admission
from mofang.sell.meter.recorder import Recorder
from mofang.surface.protocols.grpc.server import serve as serve_grpc
from mofang.surface.server.child import freeze
from mofang.surface.server.exchange import Router
from mofang.surface.server.forward import Forwarder
from mofang.surface.server.gateway import router
from mofang.surface.server.listener import HttpServer
from mofang.surface.server.telemetry import Telemetry

ANYBODY = Principal("none", "default", "default", "consumer")


class BareLane(Lane):
    """A lane without keys."""

    def authenticate(self, authorization: str | None, peer: str = "", forwarded_for: str | None = None) -> Principal:
        return ANYBODY


def snapshot(folder: Path, placement: str, worker: str) -> tuple[Snapshot, str]:
    """One endpoint ``tiny`` and one key; the key's text."""
    engine = load_engine("onnx", folder)
    digest = "sha256:" + hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    revision = Revision("tiny", 1, "tiny", 1, digest, "onnx", engine.signature, placement)  # type: ignore[arg-type]
    engine.close()
    spec = ReplicaSpec("tiny/1/0", "onnx", str(folder), placement, ReplicaLimits(), worker)  # type: ignore[arg-type]
    key = new_key()
    entry = KeyEntry(key.id, key.secret_sha256, "default", "default", "consumer")
    routes = EndpointRoutes("tiny", {1: Route(revision, (spec,))}, {1: 100})
    return Snapshot(1, {"tiny": routes}, {key.id: entry}), key.text


async def start(folder: Path, placement: str, mode: str, journal: Path, worker: str) -> tuple[Lane, Router, str]:
    """Put the parts of a gateway together, and wait until the model answers; also the key's text."""
    fleet = Fleet("bench", {"process": ProcessPlacement(), "thread": ThreadPlacement(load_engine)}, lambda: None)
    recorder, telemetry = Recorder(JournalWriter(journal, "bench")), Telemetry()
    admission = Admission(lambda: fleet.snapshot)
    if mode == "governed":
        lane = Lane(
            fleet,
            admit=admission.admit,
            record=recorder.record,
            observe=telemetry.observe,
            measure=telemetry.measure,
            record_all=recorder.record_all,
        )
    else:

        def forget(usage: object, written: Callable[[Exception | None], None]) -> None:
            written(None)

        lane = BareLane(fleet, admit=lambda *_: UNBOUNDED, record=forget, observe=lambda *_: None, record_all=forget)
    current, key = snapshot(folder, placement, worker)
    fleet.adopt(current)
    if placement == "process":
        spec = msgspec.json.encode(current.endpoints["tiny"].routes[1].replicas[0]).decode()
        command = [sys.executable, "-m", "mofang.surface.server.worker", spec]
        await asyncio.create_subprocess_exec(*command, preexec_fn=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
    generator = Generator(fleet, admit=admission.admit, record=recorder.record, observe=telemetry.observe)
    while not lane.is_ready(ANYBODY, "tiny"):  # noqa: ASYNC110 (a benchmark may look)
        await asyncio.sleep(0.01)
    forwarder = Forwarder(journal / "none.sock")
    return lane, router(lane, generator, admission, Once(journal / "once", 60), forwarder), key


async def serve(folder: Path, port: int, grpc_port: int, placement: str, mode: str, journal: Path, worker: str) -> None:
    """Serve until killed."""
    lane, choose, key = await start(folder, placement, mode, journal, worker)
    http = HttpServer(choose)
    await http.serve(socket.create_server(("127.0.0.1", port), backlog=1024))
    grpc = await serve_grpc(lane, f"127.0.0.1:{grpc_port}")
    freeze()
    print(key, flush=True)
    await asyncio.Event().wait()
    await grpc.stop(0)  # never; but a server that nobody holds is stopped


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with whoever started this
    model, port, grpc_port, placement, mode, journal, worker = sys.argv[1:]
    uvloop.run(serve(Path(model), int(port), int(grpc_port), placement, mode, Path(journal), worker))
