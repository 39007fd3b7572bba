"""Models, their immutable versions, and where a version came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mofang.base.domain.tensors import Signature


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact: its path inside the artifact's folder, SHA-256 (hex) and size."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an engine can load: files, the engine's name, the signature, and labels of the classes if it has any."""

    engine: str
    files: tuple[FileEntry, ...]
    signature: Signature
    labels: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over every byte of every file, engine, signature and labels (canonical JSON)."""
        text = canonical_json(asdict(self))
        return "sha256:" + hashlib.sha256(text).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.files)


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version came from; empty strings where it does not apply (a pushed file has no recipe)."""

    source: str = "push"  # push | train | compress
    run: str = ""
    dataset: str = ""  # digest
    recipe: str = ""  # digest of the recipe's text
    code: str = ""  # version of mofang and of the framework
    parent: str = ""  # digest of the version a variant was made from


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """An immutable, digest-addressed, numbered version of a model."""

    model: str
    number: int
    digest: str
    artifact: Artifact
    lineage: Lineage
    created_at: int
    metrics: dict[str, float] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"


def canonical_json(value: Any) -> bytes:
    """Encode for hashing: sorted keys, no spaces, no NaN, ASCII. The same value is always the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
