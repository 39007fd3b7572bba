"""The composition root: every concrete part is chosen here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mofang.base.audit.heads import AuditKey
from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import EVERYTHING
from mofang.base.domain.usage import Charge
from mofang.base.identity.store import IdentityStore
from mofang.base.jobs.store import JobStore
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.counters import CounterArchive
from mofang.base.storage.database import Database
from mofang.base.storage.journal import writer_of
from mofang.base.storage.owners import Owners
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
from mofang.sell.meter.folding import Fold
from mofang.sell.meter.settler import Settler
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import HOUR_US
from mofang.sell.meter.witness import Witness
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Stores:
    """Everything durable, opened on one data directory."""

    database: Database
    blobs: DiskBlobs
    owners: Owners
    identity: IdentityStore
    users: UserStore
    audit: AuditStore
    jobs: JobStore
    datasets: DatasetStore
    runs: RunStore
    evaluations: EvaluationStore
    variants: VariantStore
    registry: Registry
    deployments: DeploymentStore
    files: FileStore
    usage: UsageStore
    counters: CounterArchive
    budgets: BudgetStore
    bills: BillStore
    billing: Billing
    origins: RegistryOrigins
    settler: Settler


def open_stores(settings: Settings) -> Stores:
    """Open the database and the object store that ``settings`` name; the schema is the caller's to migrate."""
    folders = DataDirectory(settings.data)
    database = Database(settings.database_url)
    blobs = DiskBlobs(folders.blobs)
    budgets = BudgetStore(database)
    identity = IdentityStore(database)
    registry, variants, deployments = Registry(database, blobs), VariantStore(database), DeploymentStore(database)
    bills = BillStore(database)
    origins = RegistryOrigins(registry, variants, deployments.revisions, lambda: database.acting(EVERYTHING))
    folders.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    audit = AuditStore(database, AuditKey.open(folders.audit_key))
    witness = Witness(audit)

    def on_fold(fold: Fold) -> None:
        bills.note_late(fold)
        witness.note(fold)

    def settle(segment: str, charges: Sequence[Charge]) -> None:
        budgets.settle(writer_of(segment), charges)

    usage = UsageStore(database, settle, on_fold, origins.variants)
    return Stores(
        database=database,
        blobs=blobs,
        owners=Owners(database),
        identity=identity,
        users=UserStore(database, identity),
        audit=audit,
        jobs=JobStore(database),
        datasets=DatasetStore(database),
        runs=RunStore(database),
        evaluations=EvaluationStore(database),
        variants=variants,
        registry=registry,
        deployments=deployments,
        files=FileStore(database),
        usage=usage,
        counters=CounterArchive(folders.counters),
        budgets=budgets,
        bills=bills,
        billing=Billing(
            bills,
            usage,
            origins,
            Deployments(deployments).serving,
            grace_us=settings.grace_hours * HOUR_US,
        ),
        origins=origins,
        settler=Settler(folders.journal, usage),
    )
