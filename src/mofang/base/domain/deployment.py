"""Endpoints, their revisions, and the Snapshot that tells gateways what to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mofang.base.domain.access import EVERYTHING, AccessLimits, KeyEntry, Scope
from mofang.base.domain.budget import Budget, Tariff
from mofang.base.domain.errors import EndpointNotFound
from mofang.base.domain.names import VersionRef
from mofang.base.domain.tensors import Signature

PlacementName = Literal["process", "thread"]
RolloutState = Literal["pending", "starting", "switching", "draining", "done", "failed"]
ROLLOUT_ENDED: frozenset[RolloutState] = frozenset({"done", "failed"})


@dataclass(frozen=True, slots=True)
class ReplicaLimits:
    """Bounds of one replica's queue and batches."""

    max_batch_rows: int = 64
    max_wait_us: int = 1000  # the longest wait for a fuller batch, where that is measured to pay; 0: none
    preferred_rows: tuple[int, ...] = ()  # sizes of batches that the model computes best; what is beyond one waits
    cache_bytes: int = 0  # of answers that each gateway keeps for those who ask the same again; 0: none
    max_queue: int = 2048  # calls
    max_queue_bytes: int = 256 << 20
    join: bool = True  # whether calls may share a batch at all
    pad: Mapping[str, int | str] = field(default_factory=dict)  # what inputs of several lengths are padded with
    on_demand: bool = False  # a worker runs while it is asked, and as long as there is memory; else always


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the first load of a revision measured: the threads to compute with, and the time of one row with them."""

    threads: int
    row_us: int


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a language model is computed with besides, where a request names it: a version, and that with its base.

    ``digest`` is of the variant of the base that both are together: what is metered and paid.
    """

    version: str  # MODEL@NUMBER
    digest: str
    variant: str  # its name


@dataclass(frozen=True, slots=True)
class Revision:
    """An immutable, numbered state of an endpoint: which version, placed how.

    ``calibration`` alone is written later, once, when it is loaded for the first time.
    """

    endpoint: str
    number: int
    model: str
    version: int
    digest: str
    engine: str
    signature: Signature
    placement: PlacementName = "process"
    replicas: int = 1
    limits: ReplicaLimits = field(default_factory=ReplicaLimits)
    labels: tuple[str, ...] = ()
    created_at: int = 0
    options: Mapping[str, int | str] = field(default_factory=dict)  # of the engine; what is not here is as usual
    variant: str = ""  # of the version; empty: the version itself
    calibration: Calibration | None = None
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # by the names that requests give
    adapter: str = ""  # of these, the one that a request named

    def adapted(self, name: str) -> Revision:
        """Return this revision as it is for requests that name an adapter; raise EndpointNotFound if it has none."""
        if (adapter := self.adapters.get(name)) is None:
            known = ", ".join(self.adapters) or "none"
            raise EndpointNotFound(f"endpoint {self.endpoint!r} has no adapter {name[:80]!r}", hint=f"it has: {known}")
        return replace(self, digest=adapter.digest, variant=adapter.variant, adapter=name)

    @property
    def forms(self) -> tuple[Revision, ...]:
        """Everything that it can be asked as: itself, and with each adapter."""
        return (self, *map(self.adapted, self.adapters))

    @property
    def priced_as(self) -> str:
        """``endpoint/number``, with ``:adapter`` if a request named one: what has prices of its own."""
        return f"{self.key}:{self.adapter}" if self.adapter else self.key

    @property
    def ref(self) -> str:
        """What is served: ``model@version``, with ``+variant`` if it is one."""
        return str(VersionRef(self.model, str(self.version), self.variant))

    @property
    def key(self) -> str:
        """``endpoint/number``, unique in the platform."""
        return f"{self.endpoint}/{self.number}"


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """Where one replica is: the folder of its artifact and, in a process, the Unix socket it answers on."""

    id: str  # endpoint/revision/index
    engine: str
    folder: str
    placement: PlacementName
    limits: ReplicaLimits
    socket: str = ""
    options: Mapping[str, int | str] = field(default_factory=dict)  # of the engine
    calibrate: bool = False  # whether the worker may find out what nobody set
    calibration: Calibration | None = None  # what was found before
    adapters: Mapping[str, str] = field(default_factory=dict)  # folders by name


@dataclass(frozen=True, slots=True)
class Route:
    """One revision as gateways see it. ``broken`` says why it cannot answer, if it cannot."""

    revision: Revision
    replicas: tuple[ReplicaSpec, ...]
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who may ask an endpoint besides those who reach the project it belongs to. Others do not come to know of it."""

    everyone: bool = True
    tenants: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointRoutes:
    """Routes of one endpoint by revision number, and the share of traffic (percent) each gets.

    A route without traffic is being made ready: gateways open it, but send nothing.
    """

    name: str
    routes: Mapping[int, Route]
    traffic: Mapping[int, int]
    owner: Scope = EVERYTHING  # the project it belongs to
    audience: Audience = field(default_factory=Audience)

    def admits(self, asker: Scope) -> bool:
        """Tell whether the endpoint exists for whoever asks."""
        audience = self.audience
        return (
            audience.everyone
            or asker.covers(self.owner.tenant, self.owner.project)
            or asker.project in audience.projects
            or asker.tenant in audience.tenants
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a gateway needs to answer, numbered, immutable, swapped in whole."""

    number: int
    endpoints: Mapping[str, EndpointRoutes]
    keys: Mapping[str, KeyEntry]
    limits: tuple[AccessLimits, ...] = ()
    budgets: tuple[Budget, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)  # of tenants whose share is not the usual, 1.0
    tariffs: Mapping[str, Tariff] = field(
        default_factory=dict
    )  # of budgets in money, by "TENANT ENDPOINT/REVISION:ADAPTER"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name clients ask, and the revision that answers (0: none yet)."""

    name: str
    active_revision: int
    created_at: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """A switch of an endpoint from one revision to another; a rollback is one to an earlier revision."""

    id: str
    endpoint: str
    from_revision: int
    to_revision: int
    state: RolloutState
    reason: str = ""
    is_rollback: bool = False
    created_at: int = 0
    ended_at: int = 0


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a gateway tells the controller whenever it changes: how far it has followed the Snapshots.

    ``opened`` and ``failed`` name replicas (``failed`` with the error's code and sentence); ``busy`` names revisions
    that are in flight here though the Snapshot no longer has them; ``asked`` tells when revisions that are loaded on
    demand were last asked, on time.monotonic(), and ``waiting`` names those of which calls wait for a worker.
    """

    gateway: str
    number: int
    opened: frozenset[str] = frozenset()
    failed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    asked: Mapping[str, float] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()


EMPTY_SNAPSHOT = Snapshot(number=0, endpoints={}, keys={})
