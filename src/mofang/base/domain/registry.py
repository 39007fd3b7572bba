"""Models, their immutable versions, and where a version came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from mofang.base.domain.errors import InvalidPath
from mofang.base.domain.names import VersionRef
from mofang.base.domain.tensors import Signature


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact: its path inside the artifact's folder, SHA-256 (hex) and size."""

    path: str
    sha256: str
    size_bytes: int


def check_files(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Return ``files`` if every path stays inside its folder and none is in another's way; else raise InvalidPath."""
    entries = list(files)
    taken: set[PurePosixPath] = set()
    for entry in sorted(entries, key=lambda entry: entry.path):
        path = PurePosixPath(entry.path)
        plain = str(path) == entry.path and not path.is_absolute() and path.parts and ".." not in path.parts
        if not plain or not entry.path.isprintable() or "\\" in entry.path:
            raise InvalidPath(f"{entry.path!r} is no path inside an artifact")
        if taken.intersection((path, *path.parents)):
            raise InvalidPath(f"{entry.path!r} is in the way of another file of the artifact")
        taken.add(path)
    return entries


@dataclass(frozen=True, slots=True)
class Artifact:
    """What an engine can load: files, the engine's name, the signature, and labels of the classes if it has any.

    ``meanings`` says in words what inputs and outputs are, by name, and in what unit.
    """

    engine: str
    files: tuple[FileEntry, ...]
    signature: Signature
    labels: tuple[str, ...] = ()
    meanings: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` over every byte of every file, engine, signature, labels and meanings (canonical JSON)."""
        told = asdict(self)
        if not self.meanings:
            del told["meanings"]  # without any, a version is the same as before there were meanings
        text = canonical_json(told)
        return "sha256:" + hashlib.sha256(text).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.files)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a pushed version was before: its format, its files as they came, and the proof that it answers alike.

    ``proof`` is empty where nothing was converted; ``why_native`` says why the model is served by its own framework.
    """

    format: str
    files: tuple[FileEntry, ...] = ()
    proof: dict[str, Any] = field(default_factory=dict)
    why_native: str = ""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens that a language model said in a second: to one stream, and to all of several ``streams`` together."""

    one: float
    several: float
    streams: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Why a version is computed by its engine, where several can: what was measured of each, and on what machine."""

    engine: str
    why: str
    machine: str
    speeds: dict[str, Speed] = field(default_factory=dict)  # by engine; of those that could be measured


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version came from; empty strings where it does not apply (a pushed file has no recipe)."""

    source: str = "push"  # push | train | compress
    run: str = ""
    dataset: str = ""  # digest
    recipe: str = ""  # digest of the recipe's text
    code: str = ""  # version of mofang and of the framework
    parent: str = ""  # digest of the version a variant was made from
    steps: str = ""  # how a variant was made of it, in one line
    adapter: str = ""  # digest of the version that was laid over the parent
    conversion: Conversion | None = None  # of what was pushed in another framework's format
    choice: Choice | None = None  # of the engine, where it was measured


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
    variant: str = ""  # its name, if it is a compressed form of the version of that number

    @property
    def ref(self) -> VersionRef:
        """What names it, and nothing else."""
        return VersionRef(self.model, str(self.number), self.variant)

    def __str__(self) -> str:
        return str(self.ref)


def canonical_json(value: Any) -> bytes:
    """Encode for hashing: sorted keys, no spaces, no NaN, ASCII. The same value is always the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
