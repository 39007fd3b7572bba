"""The data directory: where each thing lies, who may use it, and the lock that keeps a second server out."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mofang.base.domain.errors import DataDirectoryInUse, DataDirectoryUnusable

_SOCKET_BASE = 20  # bytes left for the base, if a socket's whole path may have 107
_SUBFOLDERS = ("blobs", "journal", "counters", "cache", "logs", "jobs", "uploads")


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths below one root. Sockets lie elsewhere: their paths may have 107 bytes, a data directory's more."""

    root: Path

    @property
    def blobs(self) -> Path:
        """Content-addressed files of models and datasets."""
        return self.root / "blobs"

    @property
    def journal(self) -> Path:
        """Usage that is not in the ledger yet."""
        return self.root / "journal"

    @property
    def counters(self) -> Path:
        """What engines have computed, counted by themselves."""
        return self.root / "counters"

    @property
    def once(self) -> Path:
        """Answers to requests with an idempotency key, as long as they are kept."""
        return self.root / "once"

    @property
    def cache(self) -> Path:
        """Artifacts laid out for engines; can be deleted while the server is down."""
        return self.root / "cache"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.root / "logs"

    @property
    def jobs(self) -> Path:
        """Scratch folders of running jobs."""
        return self.root / "jobs"

    @property
    def uploads(self) -> Path:
        """Uploads in progress."""
        return self.root / "uploads"

    @property
    def toolchains(self) -> Path:
        """Environments of frameworks that do not live beside the server; can be deleted while it is down."""
        return self.root / "toolchains"

    @property
    def admin_key(self) -> Path:
        """The first key, mode 0600."""
        return self.root / "admin.key"

    @property
    def deputy_key(self) -> Path:
        """The secret with which batches ask on behalf of keys, mode 0600."""
        return self.root / "deputy.key"

    @property
    def audit_key(self) -> Path:
        """The private key that signs heads of the audit log, mode 0600."""
        return self.root / "audit.key"

    @property
    def audit_heads(self) -> Path:
        """Heads of the audit log, unless a setting puts them elsewhere."""
        return self.root / "audit-heads.jsonl"

    @property
    def running(self) -> Path:
        """What `mofang status` and `mofang down` read: pid and addresses of the server that runs here."""
        return self.root / "run.json"

    @property
    def snapshot(self) -> Path:
        """The last Snapshot, from which a gateway serves if the controller is away."""
        return self.root / "snapshot.msgpack"

    @property
    def sockets(self) -> Path:
        """A private folder with a short path for Unix sockets, the same for every process of this server."""
        name = hashlib.sha256(str(self.root).encode()).hexdigest()[:12]
        base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        if len(base) > _SOCKET_BASE:
            base = "/tmp"  # noqa: S108 (the folder below is made private and its owner checked)
        return Path(base) / f"mofang-{os.getuid()}-{name}"

    def prepare(self) -> None:
        """Make every folder; raise DataDirectoryUnusable if something cannot be written here."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _SUBFOLDERS:
                (self.root / name).mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(bytes(65536))
                probe.flush()
                os.fsync(probe.fileno())
            self.sockets.mkdir(exist_ok=True, mode=0o700)
            if self.sockets.stat().st_uid != os.getuid():
                raise DataDirectoryUnusable(f"{self.sockets} belongs to another user", hint="set XDG_RUNTIME_DIR")
        except OSError as error:
            raise DataDirectoryUnusable(f"cannot write to {self.root}: {error.strerror or error}") from error

    def lock(self) -> int:
        """Hold the directory until the returned descriptor is closed, by death too; raise DataDirectoryInUse."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            pid = (self.read_running() or {}).get("pid", "unknown")
            raise DataDirectoryInUse(f"a server (pid {pid}) already runs on {self.root}") from None
        return descriptor

    def is_locked(self) -> bool:
        """Tell whether a server holds the directory."""
        try:
            os.close(self.lock())
        except DataDirectoryInUse:
            return True
        except FileNotFoundError:
            return False
        return False

    def read_running(self) -> dict[str, Any] | None:
        """Return what the running server wrote about itself, if a file is there."""
        try:
            found: dict[str, Any] = json.loads(self.running.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found

    def write_private(self, path: Path, text: str) -> None:
        """Write ``text`` with mode 0600, whole or not at all."""
        partial = path.with_suffix(path.suffix + ".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
