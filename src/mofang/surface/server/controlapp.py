"""The controller's web application: the control API and the metrics page, on a Unix socket behind the gateways."""

from __future__ import annotations

import asyncio
import contextlib
import socket as sock
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from fastapi import APIRouter
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

import mofang
from mofang.base.domain.access import EVERYTHING, Principal
from mofang.base.domain.names import now_us
from mofang.base.identity.keys import authenticate
from mofang.base.users.rules import parse_rules
from mofang.base.users.signin import SignIn
from mofang.run.deploy.deployments import Deployments
from mofang.run.serve.lane import bearer
from mofang.sell.budget.lender import Lender
from mofang.surface.api.access import needs
from mofang.surface.api.app import create_app
from mofang.surface.api.platform import Platform, Process
from mofang.surface.api.provider import Provider
from mofang.surface.api.refusals import Refusals
from mofang.surface.server.floor import ShopFloor
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.settings import Settings
from mofang.surface.server.telemetry import exposition
from mofang.surface.server.wiring import Stores


def control_app(
    settings: Settings, stores: Stores, floor: ShopFloor, lender: Lender, settle: Callable[[], None], refusals: Refusals
) -> ASGIApp:
    """Put the control API on the stores and on the running server; called in its event loop."""
    loop = asyncio.get_running_loop()

    def budget_changed(budget: str) -> None:
        loop.call_soon_threadsafe(lender.changed, budget)

    def holder(authorization: str | None, address: str) -> Principal:
        return authenticate(bearer(authorization), floor.entries, now_us(), address)

    async def publish() -> None:
        with stores.database.acting(EVERYTHING):  # not only what whoever made the change can see
            await floor.publish()
        floor.kick()

    platform = Platform(
        identity=stores.identity,
        audit=stores.audit,
        users=stores.users,
        sign_in=SignIn(stores.users, stores.identity, stores.database.acting, settings.session_seconds),
        refusals=refusals,
        provider=_provider(settings),
        rules=parse_rules(settings.oidc_roles),
        jobs=stores.jobs,
        datasets=stores.datasets,
        runs=stores.runs,
        evaluations=stores.evaluations,
        variants=stores.variants,
        registry=stores.registry,
        blobs=stores.blobs,
        owners=stores.owners,
        deployments=Deployments(stores.deployments),
        files=stores.files,
        usage=stores.usage,
        counters=stores.counters,
        budgets=stores.budgets,
        bills=stores.bills,
        billing=stores.billing,
        transaction=stores.database.write,
        acting=stores.database.acting,
        authenticate=holder,
        publish=publish,
        replicas=floor.replicas,
        processes=lambda: _processes(floor),
        settle=settle,
        budget_changed=budget_changed,
        reserved=lender.reserved,
        scrub=stores.database.scrub,
        uploads=DataDirectory(settings.data).uploads,
        version=mofang.__version__,
        started_at=now_us(),
        upload_limit_bytes=settings.upload_bytes,
        sources=tuple(Path(folder) for folder in settings.sources.split(":") if folder),
    )
    app = create_app(platform)
    page = APIRouter()
    page.add_api_route(
        "/metrics", _metrics(floor, stores), dependencies=[needs("operate", everywhere=True)], include_in_schema=False
    )
    app.router.routes.extend(page.routes)
    return app


def _provider(settings: Settings) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    secret = Path(settings.oidc_secret_file).read_text().strip() if settings.oidc_secret_file else ""
    return Provider(settings.oidc_issuer, settings.oidc_client, secret)


class ControlPort(uvicorn.Server):
    """Serves the application on a Unix socket; signals are the controller's to take."""

    def __init__(self, app: ASGIApp, socket: Path) -> None:
        socket.unlink(missing_ok=True)
        super().__init__(
            uvicorn.Config(app, uds=str(socket), log_config=None, access_log=False, timeout_graceful_shutdown=5)
        )
        self.opened = asyncio.Event()

    async def startup(self, sockets: list[sock.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.opened.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _metrics(floor: ShopFloor, stores: Stores) -> Callable[[], PlainTextResponse]:
    def metrics() -> PlainTextResponse:
        """Counters of every gateway, in Prometheus' text format."""
        counts = [(name, word.counts) for name, word in sorted(floor.gateways.words.items())]
        restarts = sum(state.exits for state in floor.processes.states.values())
        gauges = [
            ("mofang_endpoints", "Endpoints.", len(stores.deployments.list_endpoints())),
            ("mofang_processes", "Processes of the server.", len(floor.processes.states)),
            ("mofang_recent_exits", "Processes that died within the last minute.", restarts),
        ]
        return PlainTextResponse(exposition(counts, gauges), media_type="text/plain; version=0.0.4")

    return metrics


def _processes(floor: ShopFloor) -> list[Process]:
    return [
        Process(state.name, "crash loop" if state.looping else state.status, state.pid, state.exits, state.started_at)
        for state in floor.processes.states.values()
    ]
