"""The audit log: search it, prove what is in it, have it verified, and erase the words that name somebody.

A tenant sees the records that concern it, each with a proof that it is in the one log of the platform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from mofang.base.audit.chain import AuditRecord
from mofang.base.audit.heads import Head
from mofang.base.audit.proof import ConsistencyProof, InclusionProof
from mofang.base.audit.store import AuditStore
from mofang.base.audit.verify import VerifyReport
from mofang.base.users.store import UserStore
from mofang.sell.bill.store import BillStore
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.witness import UsageReport, Witness
from mofang.surface.api.access import Caller, Route, table
from mofang.surface.api.changes import Changes
from mofang.surface.api.fields import MAX_AT, AfterNumber, Body, Limit, Page, Text, page

Seq = Annotated[int, Query(ge=1, le=2**53)]
Word = Annotated[Text | None, Query(max_length=200)]
When = Annotated[int | None, Query(ge=0, le=MAX_AT, description="microseconds since the epoch")]


class RecordView(BaseModel):
    """Who did what to what, from where; ``erased`` names the words that are gone."""

    seq: int
    at: int
    actor: str
    action: str
    target: str
    address: str
    details: dict[str, Any]
    erased: tuple[str, ...]
    previous: str
    hash: str


class SealedRecord(BaseModel):
    """A record with all that its hash is made of: what is exported."""

    seq: int
    at: int
    action: str
    told: dict[str, Any]
    salts: dict[str, str]
    commitments: dict[str, str]
    previous: str
    hash: str
    proof: InclusionProof | None = None


class KeyView(BaseModel):
    """The public key that heads are signed with, as PEM."""

    public_key: str


class VerifiedView(BaseModel):
    """What was verified: the log, and with ``usage`` the ledger by what the log saw of it."""

    records: int
    head: str
    root: str
    erased: int
    usage: UsageReport | None = None


class ErasureBody(Body):
    """A name, an id or an address: every word of the log that names it goes."""

    subject: Text = Field(min_length=1, max_length=200)


class ErasureView(BaseModel):
    """What was erased. ``record`` is the audit record that tells of it."""

    record: int
    records: int
    words: int
    party: bool
    user: bool


class Audit:
    """The routes of audit."""

    def __init__(
        self,
        audit: AuditStore,
        usage: UsageStore,
        bills: BillStore,
        users: UserStore,
        scrub: Callable[[], None],
        changes: Changes,
    ) -> None:
        self._audit = audit
        self._users = users
        self._usage = usage
        self._bills = bills
        self._scrub = scrub
        self._changes = changes

    def list_records(
        self,
        after: AfterNumber = 0,
        limit: Limit = 100,
        actor: Word = None,
        action: Word = None,
        target: Word = None,
        start: Annotated[When, Query(alias="from")] = None,
        end: Annotated[When, Query(alias="to")] = None,
        folds: Annotated[bool, Query(description="the settler's records as well")] = True,
    ) -> Page[RecordView]:
        """Search records, oldest first: by who, what (`key.create`, or `key` for all of its kind), which and when."""
        wanted: dict[str, Any] = {"actor": actor, "action": action, "target": target, "start": start, "end": end}
        found = self._audit.list(after, limit + 1, **wanted, without=None if folds else "usage")
        return page([_view(record) for record in found], limit, lambda record: record.seq)

    def export_records(
        self,
        after: AfterNumber = 0,
        limit: Limit = 100,
        proofs: Annotated[bool, Query(description="with the proof that each is in the log")] = False,
    ) -> Page[SealedRecord]:
        """List records with all that their hashes are made of, oldest first."""
        records = self._audit.list(after, limit + 1)
        found = [SealedRecord(**record.to_dict()) for record in records]
        if proofs:
            for record, proof in zip(found, self._audit.prove_all([it.seq for it in records]), strict=True):
                record.proof = proof
        return page(found, limit, lambda record: record.seq)

    def get_head(self) -> Head:
        """Return the signed head of the log."""
        return self._audit.head()

    def get_audit_key(self) -> KeyView:
        """Return the public key that heads are signed with."""
        return KeyView(public_key=self._audit.public_key)

    def verify_records(self, usage: bool = False) -> VerifiedView:
        """Recompute the whole log, and with `usage` the ledger; the error names the first record that was touched."""
        found: VerifyReport = self._audit.verify()
        counted = Witness(self._audit).verify(self._usage) if usage else None
        return VerifiedView(records=found.records, head=found.head, root=found.root, erased=found.erased, usage=counted)

    def prove_record(self, seq: Seq) -> InclusionProof:
        """Prove that a record is in the log of the head."""
        return self._audit.prove(seq)

    def prove_growth(self, first: Seq) -> ConsistencyProof:
        """Prove that the log of the head begins with the one of `first` records."""
        return self._audit.prove_growth(first)

    def erase(self, body: ErasureBody, who: Caller) -> ErasureView:
        """Erase a user or a name, and whatever names it in the audit log, which stays verifiable."""
        with self._changes.transaction():
            user = self._users.erase(body.subject)
            party = self._bills.erase_party(body.subject)
            record = self._audit.erase(who.user or who.key_id, body.subject, address=who.address)
        self._changes.publish()
        self._scrub()
        erased = {seq: names for seq, names in record.details["erased"].items() if seq != str(record.seq)}
        words = sum(len(names) for names in erased.values())
        return ErasureView(record=record.seq, records=len(erased), words=words, party=party, user=user)


def router(
    audit: AuditStore,
    usage: UsageStore,
    bills: BillStore,
    users: UserStore,
    scrub: Callable[[], None],
    changes: Changes,
) -> APIRouter:
    """Make the router of audit."""
    api = Audit(audit, usage, bills, users, scrub, changes)
    return table(
        "audit",
        Route("GET", "/audit", "audit", api.list_records),
        Route("GET", "/audit/records", "audit", api.export_records),
        Route("GET", "/audit/head", "audit", api.get_head),
        Route("GET", "/audit/key", "audit", api.get_audit_key),
        Route("GET", "/audit/verify", "audit", api.verify_records, everywhere=True),
        Route("GET", "/audit/inclusion", "audit", api.prove_record),
        Route("GET", "/audit/consistency", "audit", api.prove_growth),
        Route("POST", "/erasures", "identity", api.erase, everywhere=True),
    )


def _view(record: AuditRecord) -> RecordView:
    names = ("seq", "at", "actor", "action", "target", "address", "details", "erased", "previous", "hash")
    return RecordView(**{name: getattr(record, name) for name in names})
