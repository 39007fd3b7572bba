"""Whether an audit log is as it was written: record by record, against its own head and heads that were anchored. Pure.

The server runs it on its database; anyone else on an exported file, with the public key and the heads she kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mofang.base.audit.chain import ERASURE, GENESIS, AuditRecord, check, check_content
from mofang.base.audit.heads import AuditPublicKey, Head
from mofang.base.audit.merkle import Edge, hash_leaf
from mofang.base.audit.proof import InclusionProof
from mofang.base.domain.errors import AuditBroken


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was kept elsewhere; ``hashes`` are those of its last records, as many as were kept with it."""

    head: Head
    hashes: tuple[str, ...] = ()

    def numbered(self) -> Iterator[tuple[int, str]]:
        """Yield the hashes that were kept, each with the number of its record."""
        return enumerate(self.hashes, self.head.size - len(self.hashes) + 1)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verified log holds: how many records, the hash of the last, the root of its tree, how many heads fit."""

    records: int
    head: str
    root: str
    anchors: int
    erased: int  # records with erased words, each of them announced by another record


def verify(
    records: Iterable[AuditRecord], head: Head, anchors: Sequence[Anchor] = (), key: AuditPublicKey | None = None
) -> VerifyReport:
    """Check ``records``, in the order of seq; raise AuditBroken, which names the first bad one.

    ``head`` is what the log itself says it is, ``anchors`` what it was once seen to be. With ``key``, each of them must
    be signed.
    """
    for said in (head, *(anchor.head for anchor in anchors)):
        if key is not None and said.size and not key.has_signed(said):
            raise AuditBroken(f"the head of {said.size} records is not signed by that key")
    known = _Known(anchors)
    edge, previous, erased, announced = Edge(), GENESIS, dict[int, set[str]](), dict[int, set[str]]()
    for record in records:
        seq = edge.size + 1
        check(record, seq, previous)
        known.check_hash(seq, record.hash)
        edge.append(hash_leaf(bytes.fromhex(record.hash)))
        known.check_head(edge, record.hash)
        previous = record.hash
        if record.erased:
            erased[seq] = {*record.erased}
        if record.action == ERASURE:
            for number, names in record.details.get("erased", {}).items():
                announced.setdefault(int(number), set()).update(names)
    _check_end(edge, previous, head, anchors)
    for seq, names in erased.items():
        if names - announced.get(seq, set()):
            raise AuditBroken(f"audit record {seq} lost words, {', '.join(sorted(names))}, that no erasure tells of")
    return VerifyReport(edge.size, previous, edge.root.hex(), len(anchors), len(erased))


def verify_part(
    records: Sequence[AuditRecord],
    proofs: Mapping[int, InclusionProof],
    head: Head,
    anchors: Sequence[Anchor] = (),
    key: AuditPublicKey | None = None,
) -> VerifyReport:
    """Check some records of a log, each by its proof, by number; raise AuditBroken, which names the first bad one.

    It tells that what is there was written so, and not whether more should be there.
    """
    roots = {anchor.head.size: anchor.head.root for anchor in anchors}
    hashes = {seq: it for anchor in anchors for seq, it in anchor.numbered()}
    last = 0
    for record in records:
        if record.seq <= last:
            raise AuditBroken(f"audit record {record.seq} is out of order: it stands after {last}")
        check_content(record)
        proof = proofs.get(record.seq)
        if proof is None or (proof.seq, proof.hash) != (record.seq, record.hash):
            raise AuditBroken(f"audit record {record.seq} has no proof that it is in the log")
        proof.check(key)
        known = hashes.get(record.seq, record.hash), roots.get(proof.head.size, proof.head.root)
        if known != (record.hash, proof.head.root):
            raise AuditBroken(f"audit record {record.seq} was rewritten: an anchored head knows another log")
        last = record.seq
    if key is not None and head.size and not key.has_signed(head):
        raise AuditBroken(f"the head of {head.size} records is not signed by that key")
    erased = sum(bool(record.erased) for record in records)
    return VerifyReport(len(records), head.last, head.root, len(anchors), erased)


class _Known:
    """What anchors say about single records, and about the log of each size."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self._hashes: dict[int, str] = {}
        self._heads: dict[int, list[Head]] = {}
        self._good = 0
        for anchor in anchors:
            self._heads.setdefault(anchor.head.size, []).append(anchor.head)
            self._hashes.update(anchor.numbered())

    def check_hash(self, seq: int, found: str) -> None:
        if self._hashes.get(seq, found) != found:
            raise AuditBroken(f"audit record {seq} was rewritten: an anchored head knows another one")

    def check_head(self, edge: Edge, last: str) -> None:
        for head in self._heads.get(edge.size, ()):
            if (head.root, head.last) != (edge.root.hex(), last):
                first = self._good + 1
                which = f"{first}" if first == edge.size else f"{first}, or one after it up to {edge.size},"
                raise AuditBroken(
                    f"audit record {which} was rewritten: the anchored head of {edge.size} has another root"
                )
            self._good = edge.size


def _check_end(edge: Edge, last: str, head: Head, anchors: Sequence[Anchor]) -> None:
    longest = max((anchor.head for anchor in anchors), key=lambda it: it.size, default=head)
    if edge.size < max(head.size, longest.size):
        whose = "its head" if head.size >= longest.size else "an anchored head"
        had = max(head.size, longest.size)
        raise AuditBroken(f"audit record {edge.size + 1} is missing: the log was cut, by {whose} it had {had} records")
    if edge.size > head.size:
        raise AuditBroken(f"audit record {head.size + 1} was inserted: by its head the log has {head.size} records")
    if (head.last, head.root) != (last, edge.root.hex()):
        raise AuditBroken(f"audit record {edge.size} was changed: it is not the one that was last written")
