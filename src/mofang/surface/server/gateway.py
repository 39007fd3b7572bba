"""A gateway: HTTP and gRPC in, answers out. Follows Snapshots, asks no database, imports no framework but what serves.

What it answers itself: ``/v1`` and ``/v2`` (inference), ``/healthz``. Everything else goes to the controller over a
Unix socket, so that users see one port and a slow query never touches inference.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from mofang.base.domain.errors import MofangError
from mofang.base.domain.names import now_us
from mofang.base.engines.catalog import generator_names, load_engine
from mofang.base.identity.deputies import open_secret
from mofang.base.placement.ondemand import OnDemandPlacement
from mofang.base.placement.process import ProcessPlacement, ProcessReplica
from mofang.base.placement.streamprocess import StreamPlacement
from mofang.base.placement.thread import ThreadPlacement
from mofang.base.storage.journal import JournalWriter, announce, sync_all
from mofang.base.storage.once import Once
from mofang.run.serve.fleet import Fleet
from mofang.run.serve.generate import Generator
from mofang.run.serve.lane import Lane
from mofang.sell.budget.purse import Purse
from mofang.sell.meter.admission import Admission
from mofang.sell.meter.durable import DurableRecorder
from mofang.sell.meter.recorder import Recorder
from mofang.surface.protocols.grpc.http2.house import Limits as GrpcLimits
from mofang.surface.protocols.grpc.server import serve as serve_grpc
from mofang.surface.protocols.http import (
    HttpRequest,
    HttpResponse,
    RequestHead,
    credentials,
    error_response,
)
from mofang.surface.protocols.lane import tell_refused
from mofang.surface.protocols.oip.generate import OipGenerate, is_generate
from mofang.surface.protocols.oip.rest import OipRest
from mofang.surface.protocols.openai.batches import as_control, is_batch
from mofang.surface.protocols.openai.rest import OpenAi, refusal_of
from mofang.surface.protocols.regions import Regions
from mofang.surface.server.child import freeze, run_child
from mofang.surface.server.counting import counters_of
from mofang.surface.server.descriptors import affordable_connections
from mofang.surface.server.exchange import Direct, Limits, Refused, Route, Router, Streamed, Whole
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.forward import Forwarder
from mofang.surface.server.link import ControllerLink, Word, load_snapshot
from mofang.surface.server.listener import HttpServer
from mofang.surface.server.settings import Settings
from mofang.surface.server.telemetry import Counts, Telemetry
from mofang.surface.server.watching import Watching

_SNAPSHOT_SECONDS = 5.0
_LOADING_SECONDS = 120.0  # a call waits so long for a worker that loads on demand, if it has the time itself
log = logging.getLogger(__name__)


def router(
    lane: Lane,
    generator: Generator,
    admission: Admission,
    once: Once,
    forwarder: Forwarder,
    regions: Regions | None = None,
) -> Router:
    """Choose who answers a request by its path."""
    oip = OipRest(lane, admission.standing, once, regions)
    inference = Direct(oip.start, oip.note)
    generate = Whole(OipGenerate(lane, generator, admission.standing, once).respond)
    openai = Whole(OpenAi(lane, generator, admission.standing, once).respond)
    batches = Streamed(partial(as_control, forwarder.respond))
    health, control = Whole(_health), Streamed(forwarder.respond)

    def choose(head: RequestHead) -> Route:
        if head.path.startswith("/v2/") or head.path == "/v2":
            if head.method == "POST":  # before a stranger's 64 MiB are kept in memory, not after
                headers = head.headers
                lane.authenticate(headers.get("authorization"), head.client, headers.get("x-forwarded-for"))
            return generate if is_generate(head.path) else inference
        if is_batch(head.path):
            return batches
        if head.path.startswith("/v1/"):
            if head.method == "POST":
                headers = head.headers
                lane.authenticate(credentials(headers), head.client, headers.get("x-forwarded-for"))
            return openai
        return health if head.path == "/healthz" else control

    return choose


def teller(lane: Lane) -> Refused:
    """Say how a request is refused before its path is looked at, and tell those who look at requests to infer."""

    def tell(head: RequestHead, error: MofangError, request_id: str) -> HttpResponse:
        parts = head.path.split("/")
        if parts[1] not in ("v1", "v2"):
            return error_response(error)
        reply = refusal_of(head.path)(error, request_id) if parts[1] == "v1" else error_response(error)
        if head.method != "POST" or is_batch(head.path):
            return reply
        endpoint = parts[3] if parts[1:3] == ["v2", "models"] and len(parts) > 3 else ""
        shown = credentials(head.headers) if parts[1] == "v1" else head.headers.get("authorization")
        holder = partial(lane.authenticate, shown, head.client, head.headers.get("x-forwarded-for"))
        tell_refused(lane, error, request_id, endpoint, 0, holder)
        return reply

    return tell


async def _health(request: HttpRequest, request_id: str) -> HttpResponse:
    return HttpResponse(200, [("content-type", "text/plain"), ("x-request-id", request_id)], b"ok\n")


async def gate(name: str, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until told to stop; then finish what is in flight."""
    settings = Settings.load()
    folders = DataDirectory(settings.data)
    telemetry, watching = Telemetry(), Watching(settings, name, folders.logs)
    holder = f"{name}-{os.getpid()}-{now_us()}"
    alive = announce(folders.journal, holder)
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        log.critical("%s; this gateway ends", error)
        failures.append(error)
        stop.set()

    recorder = _recorder(settings, JournalWriter(folders.journal, holder, syncs=settings.durability == "power"), fail)
    link: ControllerLink

    def tell() -> None:
        link.tell()

    on_demand = OnDemandPlacement(
        ProcessPlacement(), lambda spec: ProcessReplica(spec, _LOADING_SECONDS, tell), wake=tell
    )
    fleet = Fleet(
        name,
        {
            "process": StreamPlacement(on_demand, generator_names),
            "thread": ThreadPlacement(
                load_engine, settings.engine_options, lambda spec: counters_of(spec, folders.counters)
            ),
        },
        on_change=tell,
        tally=lambda spec: counters_of(spec, folders.counters, "memory"),
    )
    admission = Admission(lambda: fleet.snapshot, settings.gateways)
    purse = Purse(admission.admit, lambda: fleet.snapshot, holder, tell=tell)
    lane = Lane(
        fleet,
        admit=purse.admit,
        record=recorder.record,
        record_all=recorder.record_all,
        observe=telemetry.observe,
        measure=telemetry.measure,
        watch=watching.watch,
        trusted_proxies=settings.proxies,
        deputies=open_secret(folders.deputy_key),
    )
    generator = Generator(
        fleet,
        admit=purse.admit,
        record=recorder.record,
        observe=telemetry.observe,
        listen=telemetry.listen,
        hear=telemetry.hear,
        watch=watching.watch,
    )
    once = Once(folders.once, settings.idempotency_seconds)
    forwarder = Forwarder(folders.sockets / "control.sock", trusted_proxies=settings.proxies)
    regions = Regions(folders.sockets / "regions" if settings.shared_memory else None)
    http = HttpServer(router(lane, generator, admission, once, forwarder, regions), _limits(settings), teller(lane))

    def counts() -> Counts:
        return telemetry.counts(http.connections, fleet.in_flight, fleet.waiting(), fleet.occupancy())

    link = ControllerLink(
        folders.sockets / "link.sock",
        take=fleet.adopt,
        borrow=purse.hear,
        word=lambda: Word(
            replace(fleet.report(), asked=on_demand.asked(), waiting=on_demand.waiting()), counts(), purse.accounts()
        ),
    )
    following = asyncio.create_task(link.run())
    serving_alone = asyncio.create_task(_serve_alone(fleet, folders.snapshot))
    grpc = await serve_grpc(lane, settings.grpc, limits=_grpc_limits(settings), once=once, generator=generator)
    await http.serve(listener)
    freeze()
    await stop.wait()
    lane.draining = generator.draining = True
    http.begin_drain()
    await asyncio.gather(http.wait_drained(settings.drain_seconds), grpc.stop(settings.drain_seconds))
    for task in (following, serving_alone):
        task.cancel()
    await asyncio.gather(following, serving_alone, return_exceptions=True)
    await fleet.close()
    await forwarder.close()
    recorder.close()
    watching.close()
    os.close(alive)
    if failures:
        raise SystemExit(1)  # for the supervisor to start another


def _recorder(settings: Settings, journal: JournalWriter, fail: Callable[[Exception], None]) -> Recorder:
    return DurableRecorder(journal, sync_all, fail) if settings.durability == "power" else Recorder(journal)


def _limits(settings: Settings) -> Limits:
    return Limits(
        body_bytes=settings.body_bytes,
        connections=affordable_connections(settings.connections),
        address_connections=settings.address_connections,
    )


def _grpc_limits(settings: Settings) -> GrpcLimits:
    return GrpcLimits(
        message_bytes=settings.body_bytes,
        connections=affordable_connections(settings.connections),
        address_connections=settings.address_connections,
    )


async def _serve_alone(fleet: Fleet, path: Path) -> None:
    """Serve from the Snapshot that was kept, if no controller has sent one for a while."""
    await asyncio.sleep(_SNAPSHOT_SECONDS)
    if fleet.snapshot.number == 0:
        log.warning("no controller answers; serving from the last snapshot")
        fleet.adopt(load_snapshot(path))


def main() -> int:
    """Run a gateway as a child of the supervisor; arguments: its name, the descriptor of the listening socket."""
    name, descriptor = sys.argv[1:3]
    listener = socket.socket(fileno=int(descriptor))
    refusal = DataDirectory(Settings.load().data).sockets / "refusal.json"
    return run_child(lambda stop: gate(name, listener, stop), refusal)


if __name__ == "__main__":
    sys.exit(main())
