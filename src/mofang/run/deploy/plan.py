"""Decisions of deployment, as pure functions: which replicas ought to run, and what gateways ought to serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType

from mofang.base.domain.access import AccessLimits, KeyEntry
from mofang.base.domain.budget import Budget, Tariff
from mofang.base.domain.deployment import EndpointRoutes, ReplicaSpec, Revision, Route, Snapshot
from mofang.run.deploy.store import Desired

Locate = Callable[[Revision], tuple[ReplicaSpec, ...]]
"""Say where the replicas of a revision are, or would be."""


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do so that the replicas that run are those that ought to."""

    start: tuple[ReplicaSpec, ...]
    stop: tuple[str, ...]


def served(desired: Desired) -> Iterator[tuple[Revision, int]]:
    """Yield each revision gateways must know, and its share of the traffic.

    The active revision has all of it. One being rolled out has none until the switch; then it *is* the active one,
    and its predecessor is no longer here: gateways stop choosing it and report when nothing of it is left in flight.
    """
    active = {(e.name, e.active_revision) for e in desired.endpoints if e.active_revision}
    for endpoint, number in sorted(active):
        yield desired.revisions[f"{endpoint}/{number}"], 100
    for rollout in desired.rollouts:
        if (rollout.endpoint, rollout.to_revision) not in active:
            yield desired.revisions[f"{rollout.endpoint}/{rollout.to_revision}"], 0


def running(desired: Desired) -> list[Revision]:
    """Return every revision that ought to have replicas: those served, and those still draining."""
    found = {revision.key: revision for revision, _ in served(desired)}
    for rollout in desired.rollouts:
        if rollout.state == "draining" and rollout.from_revision:
            leaving = desired.revisions[f"{rollout.endpoint}/{rollout.from_revision}"]
            found.setdefault(leaving.key, leaving)
    return list(found.values())


def wanted_replicas(desired: Desired, locate: Locate, asleep: Set[str] = frozenset()) -> list[ReplicaSpec]:
    """Return every replica that ought to have a process now; ``asleep`` are keys of revisions that need none."""
    awake = [revision for revision in running(desired) if revision.key not in asleep]
    specs = {spec.id: spec for revision in awake for spec in locate(revision)}
    return [spec for spec in specs.values() if spec.placement == "process"]


def plan(wanted: Iterable[ReplicaSpec], running: Set[str]) -> Actions:
    """Compare the replicas wanted with the ids that have a process."""
    by_id = {spec.id: spec for spec in wanted}
    return Actions(
        start=tuple(spec for replica_id, spec in by_id.items() if replica_id not in running),
        stop=tuple(sorted(running - by_id.keys())),
    )


def build_snapshot(
    number: int,
    desired: Desired,
    keys: Mapping[str, KeyEntry],
    locate: Locate,
    broken: Mapping[str, str],
    limits: Iterable[AccessLimits] = (),
    budgets: Iterable[Budget] = (),
    tariffs: Mapping[str, Tariff] = MappingProxyType({}),
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Snapshot:
    """Write down what gateways serve; ``broken`` gives the reason for revisions (by key) that cannot answer."""
    routes: dict[str, dict[int, Route]] = {}
    traffic: dict[str, dict[int, int]] = {}
    for revision, share in served(desired):
        route = Route(revision, locate(revision), broken.get(revision.key, ""))
        routes.setdefault(revision.endpoint, {})[revision.number] = route
        if share:
            traffic.setdefault(revision.endpoint, {})[revision.number] = share
    return Snapshot(
        number=number,
        endpoints={
            name: EndpointRoutes(name, routes[name], traffic.get(name, {}), *desired.sharing(name)) for name in routes
        },
        keys=keys,
        limits=tuple(limits),
        budgets=tuple(budgets),
        tariffs=dict(tariffs),
        weights=dict(weights),
    )
