"""Usage: what was used, by whom, and every event it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mofang.base.domain.usage import UsageEvent
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Quantities of every meter, summed over everything that agrees in ``by``."""

    by: Mapping[str, str | int]  # e.g. {"endpoint": "digits", "digest": "sha256:..."}
    quantities: Mapping[str, int]  # meter -> integer units


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows of usage from ``start`` up to ``end``, microseconds since the epoch (None: all there is)."""

    start: int | None
    end: int | None
    items: list[UsageRow]


@dataclass(frozen=True, slots=True)
class Difference:
    """One meter of an endpoint: units that engines ``counted`` by themselves, and units in the ``ledger``."""

    endpoint: str
    tenant: str
    meter: str
    counted: int
    ledger: int
    difference: int  # computed and not billed; below zero: billed and not computed


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The ledger beside the counters of engines, which count ``since``: microseconds since the epoch."""

    since: int | None
    items: list[Difference]


class Meter:
    """``client.meter``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def usage(
        self,
        by: Sequence[str] = ("endpoint",),
        *,
        start: int | None = None,
        end: int | None = None,
        project: str | None = None,
        endpoint: str | None = None,
    ) -> UsageReport:
        """Return sums of every meter by columns; a period is of full hours, UTC.

        Columns are tenant, project, key_id, endpoint, revision, version, digest, variant, outcome, source, hour,
        day, month.
        """
        query = {"by": ",".join(by), "from": start, "to": end, "project": project, "endpoint": endpoint}
        return self._wire.get("/usage", UsageReport, query)

    def reconcile(self) -> Reconciliation:
        """Compare the ledger with what engines counted by themselves, of the key's tenant or of all it reaches.

        Raises OutOfReach for a key that reaches a project only.
        """
        return self._wire.get("/usage/reconciliation", Reconciliation)

    def events(
        self,
        *,
        after: str | int | None = None,
        project: str | None = None,
        endpoint: str | None = None,
        request_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[UsageEvent]:
        """Yield usage events in the order of the ledger."""
        query = {"project": project, "endpoint": endpoint, "request_id": request_id}
        return walk(self._wire, "/usage/events", UsageEvent, query, after=after, limit=limit)
