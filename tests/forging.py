"""Forgers of an exported audit log: each returns what somebody would make of it who can write the file.

``rewrite`` is the one who has the private key as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mofang.base.audit.chain import GENESIS, commit, hash_of
from mofang.base.audit.heads import AuditKey
from mofang.base.audit.merkle import Edge, hash_leaf

Record = dict[str, Any]


def read_export(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """Return the records and the head of an export."""
    *records, head = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return [line["record"] for line in records], head["head"]


def write_export(path: Path, records: Iterable[Record], head: dict[str, Any]) -> Path:
    """Write them back."""
    lines = [{"record": record} for record in records] + [{"head": head}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def edit(records: Sequence[Record], seq: int) -> list[Record]:
    """Change who did it."""
    return [{**r, "told": {**r["told"], "actor": "mallory"}} if r["seq"] == seq else r for r in records]


def remove(records: Sequence[Record], seq: int) -> list[Record]:
    """Take a record out, and close the gap."""
    return [{**r, "seq": r["seq"] - (r["seq"] > seq)} for r in records if r["seq"] != seq]


def put_in(records: Sequence[Record], seq: int) -> list[Record]:
    """Put a copy of a record before itself, and make room."""
    copy = {**records[seq - 1], "at": records[seq - 1]["at"] - 1}
    after = [{**r, "seq": r["seq"] + 1} for r in records[seq - 1 :]]
    return [*records[: seq - 1], _sealed(copy, seq, copy["previous"]), *after]


def swap(records: Sequence[Record], seq: int) -> list[Record]:
    """Have a record and the next change places."""
    first, second = records[seq - 1 : seq + 1]
    return [*records[: seq - 1], {**second, "seq": seq}, {**first, "seq": seq + 1}, *records[seq + 1 :]]


def sign(records: Sequence[Record], key: AuditKey) -> dict[str, Any]:
    """Return a head for ``records`` as the server would have signed it."""
    edge = Edge()
    for record in records:
        edge.append(hash_leaf(bytes.fromhex(record["hash"])))
    last = records[-1]["hash"] if records else GENESIS
    return key.sign(edge.size, edge.root.hex(), last, records[-1]["at"]).to_dict()


def rewrite(records: Sequence[Record], seq: int) -> list[Record]:
    """Change who did it, and make every hash from there on anew."""
    made = list(records[: seq - 1])
    for record in edit(records, seq)[seq - 1 :]:
        made.append(_sealed(record, record["seq"], made[-1]["hash"] if made else GENESIS))
    return made


def _sealed(record: Record, seq: int, previous: str) -> Record:
    commitments = {name: commit(name, word, record["salts"][name]) for name, word in record["told"].items()}
    commitments = {**record["commitments"], **commitments}
    digest = hash_of(seq, record["at"], record["action"], commitments, previous)
    return {**record, "seq": seq, "commitments": commitments, "previous": previous, "hash": digest}
