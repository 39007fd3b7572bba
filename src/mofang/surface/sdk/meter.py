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

        Columns are tenant, project, key_id, endpoint, revision, version, digest, outcome, source, hour, day, month.
        """
        query = {"by": ",".join(by), "from": start, "to": end, "project": project, "endpoint": endpoint}
        return self._wire.get("/usage", UsageReport, query)

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
