"""What deployment acts on: the worker processes and the gateways of this server.

The controller calls :meth:`ShopFloor.reconcile` after every change; a rollout waits for its replicas and gateways here.
Decisions are made in :mod:`mofang.run.deploy.plan`; this module only looks, starts, stops and sends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mofang.base.domain.access import AccessLimits, KeyEntry
from mofang.base.domain.budget import Budget, Tariff
from mofang.base.domain.deployment import ReplicaSpec, Revision
from mofang.base.domain.errors import EngineLoadFailed, MofangError, RolloutFailed, Unavailable
from mofang.base.domain.names import VersionRef, now_us
from mofang.base.engines.adapters import INSIDE
from mofang.base.placement.calibration import is_calibrated
from mofang.base.placement.headers import Hello
from mofang.base.placement.process import probe
from mofang.make.register.store import Registry
from mofang.run.deploy.plan import build_snapshot, plan, running, served, wanted_replicas
from mofang.run.deploy.store import DeploymentStore, Desired
from mofang.sell.budget.tariffs import Price, tariffs_of
from mofang.surface.server.folders import DataDirectory
from mofang.surface.server.link import Gateways, Word, save_snapshot
from mofang.surface.server.nurseries import PREFIX as NURSERY
from mofang.surface.server.nurseries import Nurseries, born
from mofang.surface.server.processes import Processes
from mofang.surface.server.residents import Residents
from mofang.surface.server.restarts import ProcessSpec, ProcessState, describe_exit

_PROBE_SECONDS = 1.0
_POLL_SECONDS = 0.05
_REPLICA = "replica/"
log = logging.getLogger(__name__)


@dataclass(eq=False)
class ShopFloor:
    """Workers and gateways, as far as deployment is concerned."""

    folders: DataDirectory
    store: DeploymentStore
    registry: Registry
    keys: Callable[[], Mapping[str, KeyEntry]]
    limits: Callable[[], Iterable[AccessLimits]]
    budgets: Callable[[], Sequence[Budget]]
    prices: Callable[[], Price]
    weights: Callable[[], Mapping[str, int]]  # in percent of the usual share
    gateways: Gateways
    processes: Processes
    kick: Callable[[], None]
    residents: Residents
    nurseries: Nurseries
    drain_seconds: float
    entries: Mapping[str, KeyEntry] = field(default_factory=dict)  # the keys last published
    _number: int = 0
    _tariffs: Mapping[str, Tariff] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)
    _laid_out: set[str] = field(default_factory=set)
    _damaged: dict[str, str] = field(default_factory=dict)
    _stopping: set[str] = field(default_factory=set)
    _asleep: Set[str] = frozenset()
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def publish(self) -> None:
        """Send the desired state to every gateway; return when each has taken it."""
        async with self._sending:  # so that numbers go out in the order in which the states were read
            desired = await asyncio.to_thread(self.store.desired)
            self.entries = await asyncio.to_thread(self.keys)
            limits = await asyncio.to_thread(self.limits)
            budgets = await asyncio.to_thread(self.budgets)
            self._tariffs = await asyncio.to_thread(self._read_tariffs, desired, budgets)
            for revision, _ in served(desired):
                if not revision.limits.on_demand:  # those are laid out when they are loaded
                    await self._lay_out(revision)
            self._broken = self._find_broken(desired)
            self._number = max(self._number + 1, now_us())
            weights = {name: weight / 100 for name, weight in (await asyncio.to_thread(self.weights)).items()}
            snapshot = build_snapshot(
                self._number, desired, self.entries, self.locate, self._broken, limits, budgets, self._tariffs, weights
            )
            save_snapshot(self.folders.snapshot, snapshot)
            self.gateways.send(snapshot)
        await self.gateways.applied(snapshot.number)

    async def reconcile(self) -> None:
        """Start the replicas that are missing, stop those that are no longer wanted, tell gateways what broke."""
        desired = await asyncio.to_thread(self.store.desired)
        present = {name.removeprefix(_REPLICA) for name in self.processes.states if name.startswith(_REPLICA)}
        self._stopping &= present
        loading = {f"{rollout.endpoint}/{rollout.to_revision}" for rollout in desired.rollouts}
        revisions, states = running(desired), self.processes.states
        others = sum(self.residents.held(state) for name, state in states.items() if name.startswith(NURSERY))
        self._asleep = self.residents.asleep(revisions, loading, self.gateways.words, self._workers, others)
        actions = plan(wanted_replicas(desired, self.locate, self._asleep), present)
        for revision in revisions:
            if revision.key not in self._asleep:
                await self._lay_out(revision)
        for spec in actions.start:
            if spec.folder not in self._damaged:
                self.processes.start(born(_worker(spec), spec.engine, states))
        for nursery in [] if actions.start else self.nurseries.missing(revisions, states):
            self.processes.start(nursery)
        for name in self.nurseries.superfluous(revisions, states):
            self.processes.stop(name, self.drain_seconds)
        for replica_id in actions.stop:
            if replica_id not in self._stopping:
                self._stopping.add(replica_id)
                self.processes.stop(_REPLICA + replica_id, self.drain_seconds)
        budgets = await asyncio.to_thread(self.budgets)
        tariffs = await asyncio.to_thread(self._read_tariffs, desired, budgets)
        if tariffs != self._tariffs or self._find_broken(desired) != self._broken:
            await self.publish()

    async def started(self, revision: Revision) -> None:
        """Return when every replica of ``revision`` is ready; raise the reason if one cannot be."""
        await self._lay_out(revision)
        specs = self.locate(revision)
        if (damage := self._damaged.get(str(self._folder(revision.digest)))) is not None:
            raise EngineLoadFailed(damage)
        if revision.placement == "process":
            hellos = await asyncio.gather(*(self._ready(spec) for spec in specs))
            if (found := hellos[0].calibration) is not None and revision.calibration is None:
                await asyncio.to_thread(self.store.record_calibration, revision, found)

    async def opened(self, revision: Revision) -> None:
        """Return when every gateway can ask ``revision``; raise the reason if one cannot."""
        wanted = {spec.id for spec in self.locate(revision)}

        def holds(word: Word) -> bool:
            for replica_id, (code, message) in word.report.failed.items():
                if replica_id in wanted and code != "replica.unavailable":
                    raise RolloutFailed(f"{message} [{code}]")
            return wanted <= word.report.opened

        await self.gateways.wait_any()
        await self.gateways.wait(holds)

    async def drained(self, revision_key: str) -> None:
        """Return when no gateway has a request in flight on the revision."""
        await self.gateways.wait(lambda word: revision_key not in word.report.busy)

    def replicas(self, endpoint: str) -> list[dict[str, Any]]:
        """Return what is known of the replicas of an endpoint."""
        prefix = f"{_REPLICA}{endpoint}/"
        return [
            {
                "id": name.removeprefix(_REPLICA),
                "state": "crash loop" if state.looping else state.status,
                "pid": state.pid,
                "restarts": state.exits,
                "started_at": state.started_at,
            }
            for name, state in sorted(self.processes.states.items())
            if name.startswith(prefix)
        ]

    def locate(self, revision: Revision) -> tuple[ReplicaSpec, ...]:
        """Say where the replicas of a revision are, or would be."""
        folder = self._folder(revision.digest)
        known, alone = revision.calibration, revision.placement == "process" and revision.replicas == 1
        measure = known is None and alone and is_calibrated(revision.engine, revision.options)
        return tuple(
            ReplicaSpec(
                id=(replica_id := f"{revision.key}/{index}"),
                engine=revision.engine,
                folder=str(folder),
                placement=revision.placement,
                limits=revision.limits,
                socket=str(self.folders.sockets / (replica_id.replace("/", "~") + ".sock")),
                options=revision.options,
                calibrate=measure,
                calibration=known,
                adapters={name: str(self._folder(it.digest) / INSIDE) for name, it in revision.adapters.items()},
            )
            for index in range(revision.replicas if revision.placement == "process" else 1)
        )

    def _folder(self, digest: str) -> Path:
        return self.folders.cache / digest.rpartition(":")[2]

    def _workers(self, revision: Revision) -> list[ProcessState]:
        found = (self.processes.states.get(_REPLICA + spec.id) for spec in self.locate(revision))
        return [state for state in found if state is not None]

    async def _lay_out(self, revision: Revision) -> None:
        """Have the artifact's files in the cache, verified; note the damage if they cannot be."""
        digests = {form.digest for form in revision.forms}
        if digests <= self._laid_out:
            return
        folder = str(self._folder(revision.digest))
        try:
            await asyncio.to_thread(self._materialise, revision)
        except MofangError as error:
            self._damaged[folder] = error.message
            log.error("%s cannot be laid out: %s", revision.key, error)
        else:
            self._laid_out |= digests
            self._damaged.pop(folder, None)

    def _materialise(self, revision: Revision) -> None:
        for form in revision.forms:
            version = self.registry.get(VersionRef(form.model, str(form.version), form.variant))
            self.registry.folder(version, self.folders.cache)

    def _read_tariffs(self, desired: Desired, budgets: Sequence[Budget]) -> Mapping[str, Tariff]:
        """Return the prices in force now for whoever has a budget in money."""
        if not any(budget.is_money for budget in budgets):
            return {}
        return tariffs_of(budgets, self.entries.values(), [revision for revision, _ in served(desired)], self.prices())

    def _find_broken(self, desired: Desired) -> dict[str, str]:
        """Return the reason for every revision none of whose replicas can answer for the time being."""
        broken: dict[str, str] = {}
        for revision, _ in served(desired):
            if (damage := self._damaged.get(str(self._folder(revision.digest)))) is not None:
                broken[revision.key] = damage
                continue
            if revision.key in self._asleep:
                continue
            specs = self.locate(revision)
            states = [self.processes.states.get(_REPLICA + spec.id) for spec in specs]
            if all(state is not None and state.looping for state in states) and states[0] is not None:
                ended = describe_exit(states[0].exit_code)
                broken[revision.key] = f"its worker died {states[0].exits} times within a minute, last with {ended}"
        return broken

    async def _ready(self, spec: ReplicaSpec) -> Hello:
        """Return one worker's hello when it is ready."""
        name = _REPLICA + spec.id
        while True:
            state = self.processes.states.get(name)
            if state is not None and state.exits >= 2:
                raise RolloutFailed(f"its worker died while loading the model ({describe_exit(state.exit_code)})")
            if state is not None and state.status == "running" and spec.id not in self._stopping:
                try:
                    hello = await probe(spec.socket, _PROBE_SECONDS)
                except Unavailable:
                    hello = None
                if hello is not None and hello.state == "ready":
                    return hello
                if hello is not None and hello.state == "failed":
                    raise hello.fault.error() if hello.fault else RolloutFailed("its worker cannot load the model")
            await asyncio.sleep(_POLL_SECONDS)


def _worker(spec: ReplicaSpec) -> ProcessSpec:
    argument = msgspec.json.encode(spec).decode()
    return ProcessSpec(name=_REPLICA + spec.id, argv=("-m", "mofang.surface.server.worker", argument))
