"""The audit log outside of its database: heads that are anchored in a file, and exports that anyone can verify.

Both are JSON lines. A file of heads is only ever appended to, and belongs where whoever can change the log cannot
write; an export holds every record, then the head.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mofang.base.audit.chain import AuditRecord
from mofang.base.audit.heads import AuditPublicKey, Head
from mofang.base.audit.proof import InclusionProof
from mofang.base.audit.verify import Anchor, VerifyReport, verify, verify_part
from mofang.base.domain.errors import AuditBroken
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.files import write_all, writing


def append_anchor(path: Path, anchor: Anchor) -> None:
    """Append a head to a file of heads, and make it survive a power cut; raise StorageFull or StorageUnavailable."""
    line = canonical_json(anchor.head.to_dict() | {"hashes": anchor.hashes}) + b"\n"
    with writing("the head of the audit log"):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last one was cut off by a crash: this one gets a line of its own
            write_all(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_anchors(path: Path) -> list[Anchor]:
    """Return the heads of a file of heads; raise AuditBroken for a line that is none.

    A last line without its end is a head whose writing was cut off: it is not counted.
    """
    found = []
    lines = path.read_text("utf-8").split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            fields = json.loads(line)
            found.append(Anchor(Head.read(fields), tuple(fields["hashes"])))
        except (ValueError, TypeError, KeyError) as error:
            with suppress(IndexError):
                if lines[number + 1 :] and not line.endswith("}"):
                    continue  # cut off, and the next one begun anew
            raise AuditBroken(f"line {number} of {path} is no head of an audit log") from error
    return found


def export_lines(records: Iterable[AuditRecord], head: Head) -> Iterator[str]:
    """Yield the lines of an export of the whole log."""
    for record in records:
        yield _line({"record": record.to_dict()})
    yield _line({"head": head.to_dict()})


def part_lines(records: Iterable[tuple[AuditRecord, InclusionProof]], head: Head) -> Iterator[str]:
    """Yield the lines of an export of some records, each with its proof."""
    for record, proof in records:
        yield _line({"record": record.to_dict(), "proof": proof.to_dict()})
    yield _line({"head": head.to_dict()})


def verify_file(export: Path, public_key: str = "", heads: Path | None = None) -> VerifyReport:
    """Verify an export without a server; raise AuditBroken, which names the first bad record.

    An export of a part, such as a tenant's, is verified record by record, by their proofs. With ``public_key`` (PEM),
    every head must be signed by it. Only ``heads`` that were kept elsewhere tell whether a whole log was rewritten, or
    its tail cut, by somebody who has the private key as well.
    """
    key = AuditPublicKey(public_key) if public_key else None
    anchors = read_anchors(heads) if heads is not None else []
    with export.open(encoding="utf-8") as lines:
        reader = _Export(export, lines)
        records = list(reader)
    if reader.proofs:
        return verify_part(records, reader.proofs, reader.head, anchors, key)
    return verify(records, reader.head, anchors, key)


class _Export:
    """Reads an export: its records, and then its head."""

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path = path
        self._lines = lines
        self.head = Head(0, "", "", 0)
        self.proofs: dict[int, InclusionProof] = {}

    def __iter__(self) -> Iterator[AuditRecord]:
        has_head = False
        for number, line in enumerate(self._lines, 1):
            try:
                fields: dict[str, Any] = json.loads(line)
                if "head" in fields:
                    self.head, has_head = Head.read(fields["head"]), True
                    continue
                record = AuditRecord(**fields["record"])
                if "proof" in fields:
                    self.proofs[record.seq] = InclusionProof.read(fields["proof"])
            except (ValueError, TypeError, KeyError) as error:
                raise AuditBroken(f"line {number} of {self._path} is no audit record") from error
            yield record
        if not has_head:
            raise AuditBroken(f"{self._path} ends without the head of the log: it was cut")


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) + "\n"
