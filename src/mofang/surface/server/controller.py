"""The controller: the control API, and the loops that make the desired state true, settle usage and start jobs.

If it dies, gateways and workers go on as they were; it comes back, reads the desired state and reconciles.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from mofang.base.domain.errors import InvalidSettings, JournalDamaged, MofangError
from mofang.base.domain.names import now_us
from mofang.base.storage.once import Once
from mofang.run.deploy.rollout import roll_out
from mofang.sell.bill.tariff import tariffs_at
from mofang.sell.budget.alerts import Notifier
from mofang.sell.budget.lender import Lender
from mofang.sell.budget.release import release_dead
from mofang.surface.api.refusals import Refusals
from mofang.surface.server.anchoring import Anchoring
from mofang.surface.server.child import freeze, run_child, trim
from mofang.surface.server.counting import open_counters
from mofang.surface.server.floor import ShopFloor
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.jobloop import JobLoop
from mofang.surface.server.link import Gateways
from mofang.surface.server.nurseries import Nurseries
from mofang.surface.server.processes import Processes
from mofang.surface.server.residents import Residents
from mofang.surface.server.settings import Settings
from mofang.surface.server.wiring import Stores, open_stores

_STEP_SECONDS = 0.5
_SETTLE_SECONDS = 0.25
_SWEEP_SECONDS = 10.0
_ANCHOR_SECONDS = 5.0
_BUSY_SECONDS = 1.0
log = logging.getLogger(__name__)


class Controller:
    """The loops, around one shop floor."""

    def __init__(
        self, settings: Settings, stores: Stores, gateways: Gateways, processes: Processes, news: asyncio.Event
    ) -> None:
        self._stores = stores
        self._settings = settings
        self._folders = DataDirectory(settings.data)
        self._news = news
        self.lender = gateways.lender = Lender(stores.budgets, gateways.lend)
        self._rollouts: dict[str, asyncio.Task[None]] = {}
        gateways.on_asked = self.kick
        self._jobs = JobLoop(stores.jobs, stores.runs, processes, settings.jobs, self._folders.jobs)
        heads = Path(settings.audit_heads).expanduser() if settings.audit_heads else self._folders.audit_heads
        self.refusals = Refusals(stores.audit, stores.users)
        self.anchoring = Anchoring(stores.audit, heads, settings.audit_webhook)
        self.floor = ShopFloor(
            folders=self._folders,
            store=stores.deployments,
            registry=stores.registry,
            keys=stores.identity.entries,
            limits=stores.identity.list_limits,
            budgets=stores.budgets.list,
            weights=stores.identity.weights,
            prices=lambda: tariffs_at(stores.bills.price_books(), now_us(), stores.origins),
            gateways=gateways,
            processes=processes,
            kick=self.kick,
            residents=Residents(settings.on_demand_bytes),
            # One that is locked in begins anew, and would have nothing of it.
            nurseries=Nurseries(0 if settings.worker_bytes else settings.nurseries),
            drain_seconds=settings.drain_seconds,
        )

    def kick(self) -> None:
        """Have the loops look at once."""
        self._news.set()

    async def reconcile_for_ever(self) -> None:
        """Keep replicas, rollouts and jobs in step with the desired state."""
        while True:
            self._news.clear()
            await self.floor.reconcile()
            await self._drive_rollouts()
            await self._jobs.step()
            with suppress(TimeoutError):
                async with asyncio.timeout(_STEP_SECONDS):  # wait_for() of Python 3.11 can swallow a cancellation
                    await self._news.wait()

    async def settle_for_ever(self) -> None:
        """Fold usage into the ledger, a few times a second."""
        while True:
            await asyncio.to_thread(self.settle)
            self.lender.look_again()
            await asyncio.sleep(_SETTLE_SECONDS)

    async def sweep_for_ever(self) -> None:
        """Remove kept answers that are too old, or too many; sum up failed sign-ins and counters of the dead.

        What requests and queries in threads of their own had of memory is given back, too.
        """
        once = Once(self._folders.once, self._settings.idempotency_seconds)
        while True:
            await asyncio.to_thread(once.sweep, self._settings.idempotency_bytes)
            await asyncio.to_thread(self.refusals.flush)
            await asyncio.to_thread(self._stores.counters.fold)
            await asyncio.to_thread(trim)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def anchor_for_ever(self) -> None:
        """Bring heads of the audit log to a second place, a moment after it grew."""
        while True:
            await self.anchoring.step()
            await asyncio.sleep(_ANCHOR_SECONDS)

    def settle(self) -> None:
        """Fold once; a damaged segment is reported and left for people, the others are folded. What dead gateways had
        of budgets goes back then."""
        try:
            self._stores.settler.fold()
        except JournalDamaged as error:
            log.error("%s", error)
        release_dead(self._folders.journal, self._stores.budgets)

    async def _drive_rollouts(self) -> None:
        for rollout in (await asyncio.to_thread(self._stores.deployments.desired)).rollouts:
            if rollout.id not in self._rollouts:
                task = asyncio.create_task(roll_out(rollout, self._stores.deployments, self.floor))
                self._rollouts[rollout.id] = task
                task.add_done_callback(partial(self._forget, rollout.id))

    def _forget(self, rollout_id: str, task: asyncio.Task[None]) -> None:
        del self._rollouts[rollout_id]
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("rollout %s was interrupted and is taken up again: %r", rollout_id, fault)


async def control(stop: asyncio.Event) -> None:
    """Run the controller until told to stop; then settle what is left."""
    settings = Settings.load()
    folders = DataDirectory(settings.data)
    stores = open_stores(settings)
    await asyncio.to_thread(_prepare, stores, folders)
    gateways = Gateways()
    news = asyncio.Event()
    processes = await Processes.connect(folders.sockets / "supervisor.sock", news.set)
    controller = Controller(settings, stores, gateways, processes, news)
    await controller.floor.publish()
    await controller.floor.reconcile()  # workers load their models while the control API is imported: half a second

    from mofang.surface.server.controlapp import ControlPort, control_app

    port = ControlPort(
        control_app(settings, stores, controller.floor, controller.lender, controller.settle, controller.refusals),
        folders.sockets / "control.sock",
    )
    serving = asyncio.create_task(port.serve())
    await port.opened.wait()  # before any gateway has a Snapshot, and says that the server is ready
    await gateways.listen(folders.sockets / "link.sock")
    loops = [
        asyncio.create_task(_for_ever(controller.reconcile_for_ever)),
        asyncio.create_task(_for_ever(controller.settle_for_ever)),
        asyncio.create_task(_for_ever(controller.lender.run)),
        asyncio.create_task(_for_ever(controller.sweep_for_ever)),
        asyncio.create_task(_for_ever(Notifier(stores.budgets, internal=settings.webhooks_internal).run)),
        asyncio.create_task(_for_ever(controller.anchor_for_ever)),
        serving,
    ]
    freeze()
    await stop.wait()
    port.should_exit = True
    await gateways.close()
    for loop in loops[:-1]:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await processes.close()
    await asyncio.to_thread(controller.settle)
    await asyncio.to_thread(partial(controller.refusals.flush, early=True))
    await controller.anchoring.step()
    stores.database.close()


def _prepare(stores: Stores, folders: DataDirectory) -> None:
    """Bring the schema up to date, sweep up after a crash and, on the first start, make the first key."""
    stores.database.migrate()
    stores.blobs.sweep()
    stores.usage.name_variants()
    open_counters(stores.counters, stores.settler, stores.usage)
    with stores.database.write():  # if the key cannot be written down, the next start is a first start again
        key = stores.identity.bootstrap()
        if key is not None:
            if folders.admin_key.exists():
                raise InvalidSettings(
                    f"the database is new, but {folders.admin_key} is the key of another one",
                    hint="set MOFANG_DATABASE as it was; to begin anew, move admin.key away",
                )
            folders.write_private(folders.admin_key, key + "\n")


async def _for_ever(loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop; a fault (a locked database, a full disk) is logged and the loop goes on after a pause."""
    while True:
        try:
            await loop()
        except MofangError as error:
            log.error("%s: [%s] %s", loop.__name__, error.code, error)
        except Exception:
            log.exception("%s failed", loop.__name__)
        await asyncio.sleep(_BUSY_SECONDS)


def main() -> int:
    """Run the controller as a child of the supervisor."""
    return run_child(control, DataDirectory(Settings.load().data).sockets / "refusal.json")


if __name__ == "__main__":
    sys.exit(main())
