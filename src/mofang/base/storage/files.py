"""Writing files so that a fault is named and a finished write survives a power cut. Blobs and journals stand on it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from mofang.base.domain.errors import StorageFull, StorageUnavailable

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file size limit is reached",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "the folder may not be written",
    errno.EPERM: "the folder may not be written",
}


class writing:
    """Turn an OSError of a write of ``what`` into StorageFull (no room, read-only) or StorageUnavailable."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError):
            return
        reason = _FULL.get(error.errno or 0)
        if reason:
            raise StorageFull(f"{self._what} could not be written: {reason}", retry_after_seconds=5) from error
        raise StorageUnavailable(f"{self._what} could not be written: {error}", retry_after_seconds=5) from error


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``; a disk that fills up half-way raises OSError, as one that was full before does."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def sync_folder(folder: Path) -> None:
    """Make names that were added to, or removed from, ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_locked(path: Path, flags: int = os.O_WRONLY) -> int:
    """Create ``path``, locked before it gets its name: nobody ever meets a live one that looks finished."""
    draft = path.with_name(f".{path.name}-{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, flags | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(draft, path)
    except OSError:
        os.close(descriptor)
        draft.unlink(missing_ok=True)
        raise
    return descriptor


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all, and on the disk when this returns."""
    draft = path.with_name(f".{path.name}-{os.getpid()}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    sync_folder(path.parent)
