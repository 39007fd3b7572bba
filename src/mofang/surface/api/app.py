"""The control API, composed: one router per stage under ``/api/v1``, behind one door.

The controller serves it on a Unix socket; gateways forward to it.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from mofang.surface.api import (
    audit,
    batch,
    bill,
    budget,
    compress,
    deploy,
    evaluate,
    export,
    identity,
    invoices,
    jobs,
    meter,
    operate,
    prepare,
    register,
    train,
    uploads,
    users,
)
from mofang.surface.api.access import Door
from mofang.surface.api.changes import Changes
from mofang.surface.api.platform import Platform
from mofang.surface.api.problems import add_handlers


def create_app(platform: Platform) -> FastAPI:
    """Make the control API of ``platform``."""
    door = Middleware(
        Door,
        authenticate=platform.authenticate,
        acting=platform.acting,
        body_limit_bytes=platform.body_limit_bytes,
    )
    app = FastAPI(
        title="Mofang control API",
        version=platform.version,
        openapi_url=None,  # described at /api/v1/openapi.json, to those who have a key
        middleware=[door],
        redirect_slashes=False,
    )
    add_handlers(app)
    for router in _routers(platform, app):
        app.router.routes.extend(router.routes)  # flat: who walks the app's routes meets every one
    return app


def _routers(p: Platform, app: FastAPI) -> list[APIRouter]:
    changes = Changes(p.transaction, p.audit, p.owners, p.publish)
    return [
        prepare.router(p.datasets),
        train.router(p.runs, p.registry, p.jobs, changes, p.sources),
        evaluate.router(p.evaluations, p.registry, p.jobs, changes),
        compress.router(p.variants, p.registry, p.jobs, p.owners, p.deployments, changes),
        uploads.router(p.blobs, p.owners, p.uploads, p.upload_limit_bytes),
        register.router(p.registry, p.evaluations, p.jobs, p.owners, changes),
        export.router(p.registry, p.jobs, p.blobs, changes),
        batch.router(p.files, p.jobs, p.blobs, changes, p.upload_limit_bytes),
        deploy.router(p.deployments, p.registry, p.variants, p.jobs, p.replicas, changes),
        meter.router(p.usage, p.counters, p.identity, p.settle),
        budget.router(p.budgets, p.identity, p.settle, changes, p.budget_changed, p.reserved),
        bill.router(p.bills, p.billing, p.identity, changes),
        invoices.router(p.bills, p.billing, p.identity, p.settle, changes),
        identity.router(p.identity, p.usage, changes),
        users.router(p.users, p.identity, p.sign_in, p.provider, p.rules, changes, p.refusals),
        audit.router(p.audit, p.usage, p.bills, p.users, p.scrub, changes),
        jobs.router(p.jobs, changes),
        operate.router(p, app.openapi),
    ]
