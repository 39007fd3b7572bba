"""What a job works with: the stores, and folders and engines that are let go at the end.

Made by the job process, used by :mod:`mofang.make.pipeline`. It does nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from mofang.base.domain.registry import FileEntry
from mofang.base.engines.base import Conversational, Engine, GenerativeEngine
from mofang.base.engines.catalog import load_engine, load_generator
from mofang.base.storage.blobs import Blobs
from mofang.make.compress.store import VariantStore
from mofang.make.convert.toolchains import Toolchains
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore


@dataclass(frozen=True, slots=True)
class Workshop:
    """The hands of a job. ``scratch`` is the job's folder: it outlives a worker that is killed, but not the job."""

    blobs: Blobs
    datasets: DatasetStore
    runs: RunStore
    evaluations: EvaluationStore
    variants: VariantStore
    registry: Registry
    scratch: Path
    job: str = ""  # id of the job itself
    timing_seconds: float = 1.5  # how long `compress` times each batch size
    upstreams: str = ""  # file that says where other servers are
    internal: bool = False  # whether data may be fetched from addresses that are not public
    toolchains: Toolchains = field(default_factory=Toolchains)

    @property
    def checkpoint(self) -> Path:
        """A file that a job which is killed, or put back, finds again when it is taken up."""
        return self.scratch / "checkpoint"

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give an empty folder that is removed at the end."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.scratch) as name:
            yield Path(name)

    @contextmanager
    def engine(self, name: str, folder: Path) -> Iterator[Engine]:
        """Load the artifact in ``folder`` and let it go at the end."""
        engine = load_engine(name, folder)
        try:
            yield engine
        finally:
            engine.close()

    @contextmanager
    def generator(self, name: str, folder: Path) -> Iterator[GenerativeEngine | Conversational]:
        """Load the language model in ``folder`` and let it go at the end."""
        engine = load_generator(name, folder)
        try:
            yield engine
        finally:
            engine.close()

    def keep(self, folder: Path) -> tuple[FileEntry, ...]:
        """Store every file in ``folder``; return the entries, sorted by path."""
        entries = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            ref = self.blobs.put_file(path)
            entries.append(FileEntry(path.relative_to(folder).as_posix(), ref.sha256, ref.size_bytes))
        return tuple(entries)
