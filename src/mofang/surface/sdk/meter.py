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

    by: Mapping[str, str]  # e.g. {"endpoint": "digits", "digest": "sha256:..."}
    quantities: Mapping[str, int]  # meter -> integer units


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows of usage in ``[from_at, to_at)``, microseconds since the epoch."""

    from_at: int
    to_at: int
    items: list[UsageRow]


class Meter:
    """``client.meter``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def usage(
        self,
        by: Sequence[str] = ("endpoint",),
        *,
        from_at: int | None = None,
        to_at: int | None = None,
        project: str | None = None,
        endpoint: str | None = None,
    ) -> UsageReport:
        """Return sums by any of tenant, project, key_id, endpoint, revision, version, digest, outcome and source."""
        query = {
            "by": ",".join(by),
            "from": from_at,
            "to": to_at,
            "project": project,
            "endpoint": endpoint,
        }
        return self._wire.get("/usage", UsageReport, query)

    def events(
        self,
        *,
        after: str | int | None = None,
        project: str | None = None,
        endpoint: str | None = None,
        limit: int | None = None,
    ) -> Iterator[UsageEvent]:
        """Yield every usage event in the order of the ledger."""
        query = {"project": project, "endpoint": endpoint}
        return walk(self._wire, "/usage/events", UsageEvent, query, after=after, limit=limit)
