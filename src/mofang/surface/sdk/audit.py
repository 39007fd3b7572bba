"""The audit log: read it, and have it verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what, chained by hash to the record before."""

    seq: int
    at: int
    actor: str
    action: str
    target: str
    details: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditProof:
    """The whole chain holds: so many records, and the hash of the last."""

    records: int
    head: str


class Audit:
    """``client.audit``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def records(self, *, after: int = 0, limit: int | None = None) -> Iterator[AuditRecord]:
        """Yield the records after number ``after``, oldest first."""
        return walk(self._wire, "/audit", AuditRecord, after=after, limit=limit)

    def verify(self) -> AuditProof:
        """Have the whole chain recomputed; raise AuditBroken naming the first record that was touched."""
        return self._wire.get("/audit/verify", AuditProof)
