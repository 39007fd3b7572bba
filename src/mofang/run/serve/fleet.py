"""The replicas one gateway can ask, kept in step with the Snapshot.

The gateway hands every Snapshot to :meth:`Fleet.adopt`; the lane asks :meth:`Fleet.pick`. Replicas are opened and
closed in the background, so that a Snapshot takes effect in one assignment: a revoked key is gone, a switched endpoint
is switched, while slow loads go on. Knows nothing of protocols, money or databases.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import (
    EMPTY_SNAPSHOT,
    EndpointRoutes,
    GatewayReport,
    ReplicaSpec,
    Route,
    Snapshot,
)
from mofang.base.domain.errors import EndpointNotFound, MofangError, ReplicaUnavailable, Unavailable
from mofang.base.domain.generation import Occupancy
from mofang.base.placement.base import Placement, ReplicaHandle, StreamHandle
from mofang.base.placement.cached import CachedReplica
from mofang.base.placement.tally import Tally, Uncounted

_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class Fleet:
    """Handles of every replica in the Snapshot; ``on_change`` is called whenever :meth:`report` would differ.

    ``tally`` makes what counts the answers given from memory.
    """

    def __init__(
        self,
        name: str,
        placements: Mapping[str, Placement],
        on_change: Callable[[], None],
        tally: Callable[[ReplicaSpec], Tally] = lambda _: Uncounted(),
    ) -> None:
        self.snapshot: Snapshot = EMPTY_SNAPSHOT
        self._name = name
        self._placements = placements
        self._on_change = on_change
        self._tally = tally
        self._handles: dict[str, ReplicaHandle] = {}
        self._failed: dict[str, MofangError] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._in_flight: dict[str, int] = {}  # by the key of the revision
        self._present: set[str] = set()  # keys of the revisions of the Snapshot
        self._picked: dict[tuple[str, str], Route] = {}  # where there is no choice, in this Snapshot

    def adopt(self, snapshot: Snapshot) -> None:
        """Follow ``snapshot`` from now on; older ones than the current are ignored."""
        if snapshot.number <= self.snapshot.number:
            return
        self.snapshot = snapshot
        self._picked = {}
        self._present = {r.revision.key for routes in snapshot.endpoints.values() for r in routes.routes.values()}
        wanted = {spec.id: spec for spec in _specs(snapshot)}
        known = self._handles.keys() | self._opening.keys() | self._failed.keys()
        for replica_id in known - wanted.keys():
            self._forget(replica_id)
        for replica_id in wanted.keys() - known:
            self._opening[replica_id] = asyncio.create_task(self._open(wanted[replica_id]))
        self._on_change()

    def report(self) -> GatewayReport:
        """Return how far this gateway has followed the Snapshots."""
        return GatewayReport(
            gateway=self._name,
            number=self.snapshot.number,
            opened=frozenset(self._handles),
            failed={replica_id: (error.code, error.message) for replica_id, error in self._failed.items()},
            busy=frozenset(key for key, count in self._in_flight.items() if count and key not in self._present),
        )

    @property
    def in_flight(self) -> int:
        """Requests being answered now."""
        return sum(self._in_flight.values())

    def waiting(self) -> dict[str, int]:
        """Return how many calls replicas have taken and not answered, by endpoint."""
        found: dict[str, int] = {}
        for replica_id, handle in self._handles.items():
            endpoint = replica_id.partition("/")[0]
            found[endpoint] = found.get(endpoint, 0) + handle.load
        return found

    def occupancy(self) -> dict[str, Occupancy]:
        """Return how full the replicas of language models are, by endpoint."""
        found: dict[str, Occupancy] = {}
        for replica_id, handle in self._handles.items():
            if isinstance(handle, StreamHandle):
                endpoint = replica_id.partition("/")[0]
                found[endpoint] = found.get(endpoint, Occupancy()) + handle.occupancy
        return found

    @property
    def settled(self) -> bool:
        """Whether a Snapshot has come and each of its replicas is open, or has failed to open: one bad model among
        many must not keep the others from being served."""
        return self.snapshot.number > 0 and self._opening.keys() <= self._failed.keys()

    def names(self, asker: Principal) -> list[str]:
        """Return the names of the endpoints that are there for ``asker``, sorted."""
        return sorted(name for name, routes in self.snapshot.endpoints.items() if routes.admits(asker.scope))

    def routes(self, asker: Principal, endpoint: str) -> EndpointRoutes:
        """Return the routes of ``endpoint``, or raise EndpointNotFound, also if it is not for ``asker``."""
        found = self.snapshot.endpoints.get(endpoint)
        if found is None or not (found.audience.everyone or found.admits(asker.scope)):
            raise EndpointNotFound(f"there is no endpoint {endpoint!r}")
        return found

    def pick(self, asker: Principal, endpoint: str, version: str = "") -> Route:
        """Choose a route by traffic, or the one that serves ``version`` if the caller insists on it.

        Raises EndpointNotFound, also if the endpoint is not for ``asker``.
        """
        self.routes(asker, endpoint)
        return self.choose(endpoint, version)

    def choose(self, endpoint: str, version: str = "") -> Route:
        """Do the same for askers of whom it is known that the endpoint is for them."""
        if known := self._picked.get((endpoint, version)):
            return known
        routes = self.snapshot.endpoints.get(endpoint)
        if routes is None:
            raise EndpointNotFound(f"there is no endpoint {endpoint!r}")
        shares = [(routes.routes[number], share) for number, share in routes.traffic.items() if share > 0]
        if version:
            shares = [(route, share) for route, share in shares if str(route.revision.version) == version]
        if not shares:
            serving = ", ".join(str(routes.routes[number].revision.version) for number in routes.traffic) or "none"
            raise EndpointNotFound(f"endpoint {endpoint!r} serves version {serving}, not {version or 'any'!r}")
        if len(shares) == 1:
            route = self._picked[endpoint, version] = shares[0][0]
            return route
        return random.choices([r for r, _ in shares], [s for _, s in shares])[0]  # noqa: S311 (no secret)

    def replica(self, route: Route) -> ReplicaHandle:
        """Return the least loaded open replica of ``route``; raise ReplicaUnavailable with the reason if none is."""
        if route.broken:
            raise ReplicaUnavailable(f"endpoint {route.revision.endpoint!r}: {route.broken}", retry_after_seconds=30)
        if len(route.replicas) == 1 and (only := self._handles.get(route.replicas[0].id)):
            return only
        handles = [self._handles[spec.id] for spec in route.replicas if spec.id in self._handles]
        if handles:
            return handles[0] if len(handles) == 1 else min(handles, key=lambda handle: handle.load)
        reasons = [self._failed[spec.id].message for spec in route.replicas if spec.id in self._failed]
        reason = reasons[0] if reasons else "its replicas are still starting"
        raise ReplicaUnavailable(f"endpoint {route.revision.endpoint!r}: {reason}", retry_after_seconds=1)

    def is_open(self, route: Route) -> bool:
        """Tell whether at least one replica of ``route`` can answer."""
        return not route.broken and any(spec.id in self._handles for spec in route.replicas)

    def enter(self, revision: str, count: int = 1) -> None:
        """Count requests as in flight on a revision (its ``key``); the controller waits for them to be none."""
        self._in_flight[revision] = self._in_flight.get(revision, 0) + count

    def leave(self, revision: str, count: int = 1) -> None:
        """Count them no longer."""
        left = self._in_flight[revision] = self._in_flight[revision] - count
        if not left:
            del self._in_flight[revision]
            if revision not in self._present:
                self._on_change()

    async def close(self) -> None:
        """Close every replica; what is in flight there ends first."""
        for replica_id in [*self._handles, *self._opening]:
            self._forget(replica_id)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _open(self, spec: ReplicaSpec) -> None:
        """Open a replica; one that is not there yet is asked again until the Snapshot drops it."""
        attempt = 0
        while True:
            try:
                handle = await self._placements[spec.placement].open(spec)
                if spec.limits.cache_bytes and not isinstance(handle, StreamHandle):
                    handle = CachedReplica(handle, spec.limits.cache_bytes, self._tally(spec))
                self._handles[spec.id] = handle
                self._failed.pop(spec.id, None)
                break
            except Unavailable as error:
                self._note_failure(spec.id, error)
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            except MofangError as error:
                self._note_failure(spec.id, error)
                break
        self._opening.pop(spec.id, None)
        self._on_change()

    def _note_failure(self, replica_id: str, error: MofangError) -> None:
        known = self._failed.get(replica_id)
        self._failed[replica_id] = error
        if known is None or known.message != error.message:
            self._on_change()

    def _forget(self, replica_id: str) -> None:
        self._failed.pop(replica_id, None)
        if (opening := self._opening.pop(replica_id, None)) is not None:
            opening.cancel()
        if (handle := self._handles.pop(replica_id, None)) is not None:
            task = asyncio.ensure_future(handle.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _specs(snapshot: Snapshot) -> Iterator[ReplicaSpec]:
    for routes in snapshot.endpoints.values():
        for route in routes.routes.values():
            yield from route.replicas
