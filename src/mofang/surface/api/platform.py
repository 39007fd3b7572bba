"""What the control API stands on, handed in whole by the composition root.

Routers never see a Platform: each takes the stores it needs. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import Principal, Scope
from mofang.base.identity.store import IdentityStore
from mofang.base.jobs.store import JobStore
from mofang.base.storage.blobs import Blobs
from mofang.base.storage.counters import CounterArchive
from mofang.base.storage.owners import Owners
from mofang.base.users.rules import Rule
from mofang.base.users.signin import SignIn
from mofang.base.users.store import UserStore
from mofang.make.compress.store import VariantStore
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore
from mofang.run.batch.store import FileStore
from mofang.run.deploy.deployments import Deployments
from mofang.sell.bill.billing import Billing
from mofang.sell.bill.store import BillStore
from mofang.sell.budget.store import BudgetStore, Place
from mofang.sell.meter.store import UsageStore
from mofang.surface.api.provider import Provider
from mofang.surface.api.refusals import Refusals


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server's tree, as the supervisor sees it."""

    name: str
    state: str
    pid: int
    restarts: int
    started_at: int


@dataclass(frozen=True, slots=True)
class Platform:
    """Stores, and the few functions that reach into the running server."""

    identity: IdentityStore
    audit: AuditStore
    users: UserStore
    sign_in: SignIn
    refusals: Refusals
    provider: Provider | None
    rules: tuple[Rule, ...]  # which roles the provider's claims give
    jobs: JobStore
    datasets: DatasetStore
    runs: RunStore
    evaluations: EvaluationStore
    variants: VariantStore
    registry: Registry
    blobs: Blobs
    owners: Owners
    deployments: Deployments
    files: FileStore
    usage: UsageStore
    counters: CounterArchive
    budgets: BudgetStore
    bills: BillStore
    billing: Billing
    transaction: Callable[[], AbstractContextManager[object]]
    acting: Callable[[Scope], AbstractContextManager[None]]
    """Use the database on somebody's behalf."""
    authenticate: Callable[[str | None, str], Principal]
    """From an Authorization value, and the address it comes from, to its holder. Called in the event loop for every
    request: it must not block."""
    publish: Callable[[], Coroutine[Any, Any, None]]
    """Send gateways the newest keys and endpoints; returns when every gateway has them."""
    replicas: Callable[[str], Sequence[Mapping[str, Any]]]
    """The replicas of an endpoint as the controller observes them: id, state, pid, restarts ..."""
    processes: Callable[[], Sequence[Process]]
    scrub: Callable[[], None]
    """Remove from the database's files what was deleted from its tables."""
    settle: Callable[[], None]
    """Fold what the journals hold into the ledger, so that what is read next is complete."""
    budget_changed: Callable[[str], None]
    """Told the id of a budget that may have become smaller, or larger. Called in worker threads."""
    reserved: Callable[[Place], int]
    """What gateways hold of a budget, in the month that begins then, for requests under way."""
    uploads: Path
    """Folder of unfinished uploads, on the disk of the blobs."""
    version: str
    started_at: int  # microseconds since the epoch
    upload_limit_bytes: int = 8 << 30
    sources: tuple[Path, ...] = ()  # folders whose files recipes of developers may read
    body_limit_bytes: int = 4 << 20  # of everything that is not an upload
