"""The audit log: search it, export it, prove what is in it, and have it verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.audit.chain import AuditRecord as SealedRecord
from mofang.base.audit.heads import AuditPublicKey, Head
from mofang.base.audit.proof import ConsistencyProof, InclusionProof
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what, from where; ``erased`` names the words that are gone."""

    seq: int
    at: int
    actor: str
    action: str
    target: str
    address: str
    details: Mapping[str, Any]
    erased: list[str]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class ProvedRecord:
    """A record with all that its hash is made of, and the proof that it is in the log."""

    seq: int
    at: int
    action: str
    told: Mapping[str, Any]
    salts: Mapping[str, str]
    commitments: Mapping[str, str]
    previous: str
    hash: str
    proof: InclusionProof

    @property
    def sealed(self) -> SealedRecord:
        """The record without its proof."""
        return SealedRecord(**{name: getattr(self, name) for name in SealedRecord.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What the audit log vouches for: so many events of the ledger, added by so many folds."""

    events: int
    folds: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The whole log holds: so many records, the hash of the last, the root of the tree over all of them."""

    records: int
    head: str
    root: str
    erased: int  # records with erased words
    usage: UsageReport | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, and the number of the audit record that tells of it."""

    record: int
    records: int
    words: int
    party: bool  # the one on invoices
    user: bool


@dataclass(frozen=True, slots=True)
class _Key:
    public_key: str


class Audit:
    """``client.audit``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def records(
        self,
        *,
        after: int = 0,
        limit: int | None = None,
        actor: str | None = None,
        action: str | None = None,
        target: str | None = None,
        start: int | None = None,
        end: int | None = None,
        folds: bool = True,
    ) -> Iterator[AuditRecord]:
        """Yield the records after number ``after`` that agree with all that is given, oldest first.

        ``action`` is one (``key.create``) or a kind (``key``); ``start`` up to ``end`` are microseconds. Without
        ``folds``, what the settler recorded about usage is left out.
        """
        query: dict[str, object] = {"actor": actor, "action": action, "target": target, "from": start, "to": end}
        query["folds"] = "true" if folds else "false"
        return walk(self._wire, "/audit", AuditRecord, query, after=after, limit=limit)

    def export(self) -> Iterator[SealedRecord]:
        """Yield all records with all that their hashes are made of, oldest first."""
        return walk(self._wire, "/audit/records", SealedRecord, after=0)

    def export_proved(self) -> Iterator[tuple[SealedRecord, InclusionProof]]:
        """Yield the records that concern whoever asks, each with the proof that it is in the log; for a tenant."""
        key = AuditPublicKey(self.public_key())
        for record in walk(self._wire, "/audit/records", ProvedRecord, {"proofs": "true"}, after=0):
            record.proof.check(key)
            yield record.sealed, record.proof

    def head(self) -> Head:
        """Return the signed head of the log: keep it where whoever can change the log cannot."""
        return self._wire.get("/audit/head", Head)

    def public_key(self) -> str:
        """Return the public key that heads are signed with, as PEM."""
        return self._wire.get("/audit/key", _Key).public_key

    def verify(self, *, usage: bool = False) -> AuditReport:
        """Have the whole log recomputed; raise AuditBroken naming the first record that was touched.

        With ``usage`` the ledger as well, event by event; raise LedgerBroken if it is not what the log saw.
        """
        return self._wire.get("/audit/verify", AuditReport, {"usage": "true"} if usage else None)

    def prove(self, seq: int) -> InclusionProof:
        """Return the proof that a record is in the log, checked here by the server's public key."""
        proof = self._wire.get("/audit/inclusion", InclusionProof, {"seq": seq})
        proof.check(AuditPublicKey(self.public_key()))
        return proof

    def prove_growth(self, first: int) -> ConsistencyProof:
        """Return the proof that the log begins with the one of ``first`` records, checked here."""
        proof = self._wire.get("/audit/consistency", ConsistencyProof, {"first": first})
        proof.check(AuditPublicKey(self.public_key()))
        return proof

    def erase(self, subject: str) -> Erasure:
        """Erase every word of the log that names ``subject``, and the party of that name on invoices."""
        return self._wire.call("POST", "/erasures", Erasure, {"subject": subject})
