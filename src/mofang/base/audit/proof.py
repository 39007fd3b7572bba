"""Proofs about the audit log that anyone can check with the public key alone, in a page of JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.audit.heads import AuditPublicKey, Head
from mofang.base.audit.merkle import hash_leaf, is_consistent, is_included
from mofang.base.domain.errors import AuditBroken


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That the record ``seq`` with this hash is in the log of ``head``: the hashes beside the way to its root."""

    seq: int
    hash: str
    path: tuple[str, ...]
    head: Head

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"seq": self.seq, "hash": self.hash, "path": list(self.path), "head": self.head.to_dict()}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> InclusionProof:
        """Return the proof that :meth:`to_dict` wrote."""
        return cls(fields["seq"], fields["hash"], tuple(fields["path"]), Head.read(fields["head"]))

    def check(self, key: AuditPublicKey | None = None) -> None:
        """Raise AuditBroken if it proves nothing, or the head is not signed by ``key``."""
        _check_head(self.head, key)
        leaf, path = hash_leaf(bytes.fromhex(self.hash)), [bytes.fromhex(it) for it in self.path]
        if not is_included(leaf, self.seq - 1, self.head.size, path, bytes.fromhex(self.head.root)):
            raise AuditBroken(f"audit record {self.seq} is not in the log of that head")


@dataclass(frozen=True, slots=True)
class ConsistencyProof:
    """That the log of ``head`` begins with the one of ``first`` records that had ``first_root``."""

    first: int
    first_root: str
    path: tuple[str, ...]
    head: Head

    def check(self, key: AuditPublicKey | None = None) -> None:
        """Raise AuditBroken if it proves nothing, or the head is not signed by ``key``."""
        _check_head(self.head, key)
        roots = bytes.fromhex(self.first_root), bytes.fromhex(self.head.root)
        if not is_consistent(self.first, self.head.size, *roots, [bytes.fromhex(it) for it in self.path]):
            raise AuditBroken(f"the log of {self.head.size} records does not begin with that of {self.first}")


def _check_head(head: Head, key: AuditPublicKey | None) -> None:
    if key is not None and not key.has_signed(head):
        raise AuditBroken(f"the head of {head.size} records is not signed by that key")
