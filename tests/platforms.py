"""A whole platform for tests of the control API and of the client: real stores, nothing that runs beside them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from mofang.base.audit.heads import AuditKey
from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import EVERYTHING, Principal, Reach, Role
from mofang.base.domain.names import now_us
from mofang.base.domain.registry import Artifact, FileEntry, Lineage, ModelVersion
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.domain.usage import UsageRecord
from mofang.base.identity.keys import authenticate
from mofang.base.identity.store import IdentityStore
from mofang.base.jobs.store import JobStore
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.counters import CounterArchive
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.owners import Owners
from mofang.base.users.rules import parse_rules
from mofang.base.users.signin import SignIn
from mofang.base.users.store import UserStore
from mofang.make.compress.store import VariantStore
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore
from mofang.run.batch.store import FileStore
from mofang.run.deploy.deployments import Deployments
from mofang.run.deploy.store import DeploymentStore
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.origins import RegistryOrigins
from mofang.sell.bill.store import BillStore
from mofang.sell.budget.store import BudgetStore
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.witness import Witness
from mofang.surface.api.platform import Platform, Process
from mofang.surface.api.provider import Provider
from mofang.surface.api.refusals import Refusals

OIDC_ROLES = "groups=ml-* -> developer@project:default; email=*@ours.example -> viewer; team=shop -> admin@project:shop"
SIGNATURE = Signature((TensorSpec("features", "FP32", (-1, 4)),), (TensorSpec("label", "INT64", (-1,)),))


@dataclass
class House:
    """A platform, its admin's key, and what it was asked to tell the rest of the server."""

    database: Database
    platform: Platform
    deployments: DeploymentStore
    admin_key: str
    published: list[int] = field(default_factory=list)

    def key(self, role: Role, project: str = "default", reach: Reach = "project") -> str:
        """Make a key and return its text."""
        return self.platform.identity.create_key(project, role, reach=reach)[1]

    def version(self, model: str = "digits", content: bytes = b"model 1") -> ModelVersion:
        """Register a version with one file."""
        blob = self.platform.blobs.put([content])
        artifact = Artifact("onnx", (FileEntry("model.onnx", blob.sha256, blob.size_bytes),), SIGNATURE, ("a", "b"))
        return self.platform.registry.register(model, artifact, Lineage(), {"accuracy": 0.9})[0]

    def usage(
        self, project: str, tenant: str, requests: int = 1, endpoint: str = "digits", at: int | None = None
    ) -> None:
        """Put answered requests of a project into the ledger, answered ``at`` (now, if left out)."""
        at = now_us() if at is None else at
        records = [
            UsageRecord(
                request_id=f"req_{project}_{number}",
                at=at,
                tenant=tenant,
                project=project,
                key_id=f"key of {project}",
                endpoint=endpoint,
                revision=1,
                version=1,
                digest="sha256:" + "a" * 64,
                outcome="ok",
                quantities={"requests": 1, "rows": 10},
            )
            for number in range(requests)
        ]
        assert self.platform.usage.fold(f"segment of {project}", 0, requests, records) == 2 * requests


@contextmanager
def open_house(folder: Path, upload_limit_bytes: int = 1 << 24, provider: Provider | None = None) -> Iterator[House]:
    """Open a platform with its first keys."""
    database = Database(f"sqlite:///{folder.absolute() / 'mofang.db'}")
    with database.write() as connection:
        metadata.create_all(connection)
    published: list[int] = []
    platform = _platform(database, folder, published, upload_limit_bytes, provider)
    key = platform.identity.bootstrap()
    assert key is not None
    try:
        yield House(database, platform, DeploymentStore(database), key, published)
    finally:
        database.close()


def _platform(
    database: Database, folder: Path, published: list[int], upload_limit_bytes: int, provider: Provider | None
) -> Platform:
    identity = IdentityStore(database)
    users = UserStore(database, identity)
    blobs = DiskBlobs(folder / "blobs")
    bills = BillStore(database)
    audit = AuditStore(database, AuditKey.open(folder / "audit.key"))
    witness = Witness(audit)
    registry, variants = Registry(database, blobs), VariantStore(database)
    deployments = Deployments(DeploymentStore(database))
    origins = RegistryOrigins(registry, variants, deployments.revisions, lambda: database.acting(EVERYTHING))
    usage = UsageStore(
        database,
        on_fold=lambda fold: (bills.note_late(fold), witness.note(fold))[0],
        variants=origins.variants,
    )

    def enter(authorization: str | None, address: str) -> Principal:
        text = (authorization or "").removeprefix("Bearer ")
        return authenticate(text, identity.entries(), now_us(), address)

    async def publish() -> None:
        published.append(len(published) + 1)

    return Platform(
        sources=(Path("/usr/share/datasets"),),
        identity=identity,
        audit=audit,
        users=users,
        sign_in=SignIn(users, identity, database.acting, 3600),
        refusals=Refusals(audit, users),
        provider=provider,
        rules=parse_rules(OIDC_ROLES),
        jobs=JobStore(database),
        datasets=DatasetStore(database),
        runs=RunStore(database),
        evaluations=EvaluationStore(database),
        variants=variants,
        registry=registry,
        blobs=blobs,
        owners=Owners(database),
        deployments=deployments,
        files=FileStore(database),
        usage=usage,
        counters=CounterArchive(folder / "counters"),
        budgets=BudgetStore(database),
        bills=bills,
        billing=Billing(bills, usage, origins, deployments.serving),
        transaction=database.write,
        acting=database.acting,
        authenticate=enter,
        publish=publish,
        replicas=lambda endpoint: [{"id": f"{endpoint}/1/0", "state": "ready"}],
        processes=lambda: [Process("controller", "running", 1, 0, 5)],
        settle=lambda: None,
        budget_changed=lambda budget: None,
        reserved=lambda place: 0,
        scrub=database.scrub,
        uploads=folder / "uploads",
        version="0.1.0",
        started_at=5,
        upload_limit_bytes=upload_limit_bytes,
        body_limit_bytes=1 << 20,
    )


class Direct(httpx.BaseTransport):
    """Asks an app in this process, without a network; the app runs in an event loop of its own thread."""

    def __init__(self, app: FastAPI) -> None:
        self._app = httpx.ASGITransport(app)
        self._running = start_blocking_portal()
        self._portal = self._running.__enter__()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def answer() -> httpx.Response:
            async def body() -> AsyncIterator[bytes]:
                assert isinstance(request.stream, Iterable)
                for chunk in request.stream:
                    yield chunk

            asked = httpx.Request(
                request.method, request.url, headers=request.headers, content=body(), extensions=request.extensions
            )
            answered = await self._app.handle_async_request(asked)
            content = await answered.aread()
            return httpx.Response(answered.status_code, headers=answered.headers, content=content)

        return self._portal.call(answer)

    def close(self) -> None:
        self._running.__exit__(None, None, None)


@contextmanager
def serving(app: FastAPI, path: Path | None = None) -> Iterator[str]:
    """Serve ``app`` on a Unix socket, or else on a free port of this machine; yield its URL."""
    uds = None if path is None else str(path)
    config = uvicorn.Config(
        app, port=0, uds=uds, log_level="error", lifespan="off", proxy_headers=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    started = threading.Event()

    class Telling(type(server)):  # type: ignore[misc]
        async def startup(self, sockets: object = None) -> None:
            await super().startup(sockets)
            started.set()

    server.__class__ = Telling
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(10), "the server did not start"
    try:
        address = server.servers[0].sockets[0].getsockname()
        yield f"http://127.0.0.1:{address[1]}" if path is None else f"unix://{path}"
    finally:
        server.should_exit = True
        thread.join(10)
