"""The hash chain of the audit log: every record carries the hash of the one before. Pure.

Whoever changes, removes, inserts or moves a record breaks the chain there; whoever cuts its tail contradicts the head,
which is kept apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from mofang.base.domain.errors import AuditBroken
from mofang.base.domain.registry import canonical_json

GENESIS = "0" * 64
"""What the first record names as the hash before it."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which thing. ``actor`` is a key's id, or the name of a part of the platform."""

    seq: int  # from 1, without gaps
    at: int
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    previous: str  # hash of record seq - 1
    hash: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verified log holds: how many records, and the hash of the last."""

    records: int
    head: str


def seal(
    seq: int, at: int, actor: str, action: str, target: str, details: dict[str, Any], previous: str
) -> AuditRecord:
    """Return the record with its hash: SHA-256 over all other fields as canonical JSON."""
    open_record = AuditRecord(seq, at, actor, action, target, details, previous, hash="")
    fields = asdict(open_record)
    del fields["hash"]
    return AuditRecord(**fields, hash=hashlib.sha256(canonical_json(fields)).hexdigest())


def verify(records: Iterable[AuditRecord], head: VerifyReport) -> VerifyReport:
    """Check ``records``, in the order of seq, and ``head``; raise AuditBroken that names the first bad record."""
    seq, previous = 0, GENESIS
    for record in records:
        seq += 1
        if record.seq != seq:
            raise AuditBroken(f"audit record {seq} is missing: the next one there is {record.seq}")
        if record.previous != previous:
            raise AuditBroken(
                f"audit record {seq} does not follow the one before it: it was inserted, moved or changed"
            )
        sealed = seal(seq, record.at, record.actor, record.action, record.target, record.details, previous)
        if sealed.hash != record.hash:
            raise AuditBroken(f"audit record {seq} was changed: its content has another hash")
        previous = record.hash
    if seq < head.records:
        raise AuditBroken(f"audit record {seq + 1} is missing: the log was cut, it had {head.records} records")
    if seq > head.records:
        raise AuditBroken(f"audit record {head.records + 1} was inserted: the log had {head.records} records")
    if previous != head.head:
        raise AuditBroken(f"audit record {seq} was changed: it is not the one that was last written")
    return head
