"""Audit records, each bound to the one before it by its hash. Pure.

A record's hash covers what happened when, and a salted commitment to each thing it tells: who, what to, from where,
before, after. The words lie beside their commitments and can be erased one by one: without the salt nothing can be
guessed of them, and the hash, so the whole chain, stays as it is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.errors import AuditBroken
from mofang.base.domain.registry import canonical_json

GENESIS = "0" * 64
"""What the first record names as the hash before it."""
ERASURE = "audit.erase"
"""The action of records that tell which words of others were erased, in their detail ``erased``: seq -> names."""
NAMES = ("actor", "target", "address")


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to which thing, from where, and what it was before and after.

    ``told`` has the words by name (``actor``: the id of a key or user, or the name of a part of the platform;
    ``target``; ``address`` of the client; ``details.before`` ...), ``salts`` their salts, ``commitments`` what the hash
    covers of each. An erased word is in ``commitments`` only.
    """

    seq: int  # from 1, without gaps
    at: int
    action: str
    told: Mapping[str, Any]
    salts: Mapping[str, str]
    commitments: Mapping[str, str]
    previous: str  # hash of record seq - 1
    hash: str

    @property
    def actor(self) -> str:
        """Who; empty if erased."""
        return str(self.told.get("actor", ""))

    @property
    def target(self) -> str:
        """What was acted on; empty if erased."""
        return str(self.told.get("target", ""))

    @property
    def address(self) -> str:
        """Where from; empty if erased."""
        return str(self.told.get("address", ""))

    @property
    def details(self) -> dict[str, Any]:
        """Everything else it tells."""
        return {name.removeprefix("details."): word for name, word in self.told.items() if name not in NAMES}

    @property
    def erased(self) -> tuple[str, ...]:
        """The names of its erased words."""
        return tuple(sorted(self.commitments.keys() - self.told.keys()))

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as plain JSON values: what is exported, and can be verified anywhere."""
        return {
            "seq": self.seq,
            "at": self.at,
            "action": self.action,
            "told": dict(self.told),
            "salts": dict(self.salts),
            "commitments": dict(self.commitments),
            "previous": self.previous,
            "hash": self.hash,
        }


def seal(seq: int, at: int, action: str, told: Mapping[str, Any], previous: str) -> AuditRecord:
    """Return a new record, with fresh salts: its hash covers everything, its words by commitment."""
    salts = {name: os.urandom(16).hex() for name in told}
    commitments = {name: commit(name, word, salts[name]) for name, word in told.items()}
    return AuditRecord(
        seq, at, action, told, salts, commitments, previous, hash_of(seq, at, action, commitments, previous)
    )


def commit(name: str, word: Any, salt: str) -> str:
    """Return the commitment to a word: SHA-256 over salt, name and word as canonical JSON."""
    return hashlib.sha256(canonical_json([salt, name, word])).hexdigest()


def hash_of(seq: int, at: int, action: str, commitments: Mapping[str, str], previous: str) -> str:
    """Return a record's hash: SHA-256 over what never changes of it, as canonical JSON."""
    fields = {"seq": seq, "at": at, "action": action, "commitments": dict(commitments), "previous": previous}
    return hashlib.sha256(canonical_json(fields)).hexdigest()


def check(record: AuditRecord, seq: int, previous: str) -> None:
    """Raise AuditBroken unless ``record`` is number ``seq``, follows ``previous``, and is as it was written."""
    if record.seq != seq:
        raise AuditBroken(f"audit record {seq} is missing: the next one there is {record.seq}")
    if record.previous != previous:
        raise AuditBroken(f"audit record {seq} does not follow the one before it: it was inserted, moved or changed")
    check_content(record)


def check_content(record: AuditRecord) -> None:
    """Raise AuditBroken unless what ``record`` tells is what its hash covers."""
    seq = record.seq
    if hash_of(seq, record.at, record.action, record.commitments, record.previous) != record.hash:
        raise AuditBroken(f"audit record {seq} was changed: its content has another hash")
    for name, word in record.told.items():
        if commit(name, word, record.salts.get(name, "")) != record.commitments.get(name):
            raise AuditBroken(f"audit record {seq} was changed: {name!r} is not what was written")


def mentions(word: Any, subject: str) -> bool:
    """Tell whether a word is ``subject``, or holds it somewhere as a text of its own."""
    if isinstance(word, dict):
        return any(key == subject or mentions(value, subject) for key, value in word.items())
    if isinstance(word, (list, tuple)):
        return any(mentions(value, subject) for value in word)
    return word == subject or (isinstance(word, str) and subject in word.split("/"))
