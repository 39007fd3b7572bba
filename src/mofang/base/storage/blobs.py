"""Content-addressed objects: whatever has the same bytes is stored once, under its SHA-256, and never changes.

Datasets, artifacts and uploads live here; tables hold only digests. This module knows files and folders, not what is in
them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mofang.base.domain.errors import BlobNotFound, DigestMismatch
from mofang.base.domain.registry import FileEntry, check_files
from mofang.base.storage.files import sync_folder, write_all, writing

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BlobRef:
    """What ``put`` gives back: the address (SHA-256, hex) and the size."""

    sha256: str
    size_bytes: int


class Blobs(Protocol):
    """A store of objects. ``put`` of the same bytes twice gives the same address twice."""

    def put(self, chunks: Iterable[bytes]) -> BlobRef:
        """Store the joined ``chunks``; nothing is visible before all of them are on the disk. Raises StorageFull."""
        ...

    def put_file(self, path: Path) -> BlobRef:
        """Store a copy of the file at ``path``."""
        ...

    def open(self, sha256: str) -> BinaryIO:
        """Open the object for reading, unverified. Raises BlobNotFound."""
        ...

    def read(self, sha256: str) -> bytes:
        """Return the whole object, verified. Raises BlobNotFound or DigestMismatch."""
        ...

    def materialise(self, files: Iterable[FileEntry], folder: Path) -> Path:
        """Make ``folder`` hold exactly ``files``, verified, and return it; it appears whole or not at all.

        Raises InvalidPath, BlobNotFound, DigestMismatch or StorageFull.
        """
        ...


class DiskBlobs:
    """Objects as read-only files ``root/ab/ab12...``. Safe for any number of threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._unfinished = self._root / "unfinished"

    def put(self, chunks: Iterable[bytes]) -> BlobRef:
        """See :meth:`Blobs.put`."""
        digest, size = hashlib.sha256(), 0
        with self._new_file() as (descriptor, path):
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                with writing("an object"):
                    write_all(descriptor, chunk)
            ref = BlobRef(digest.hexdigest(), size)
            with writing("an object"):
                self._keep(descriptor, path, ref.sha256)
        return ref

    def put_file(self, path: Path) -> BlobRef:
        """See :meth:`Blobs.put_file`."""
        with path.open("rb") as file:
            return self.put(iter(lambda: file.read(_CHUNK_BYTES), b""))

    def open(self, sha256: str) -> BinaryIO:
        """See :meth:`Blobs.open`."""
        try:
            return self._path(sha256).open("rb")
        except FileNotFoundError as error:
            raise BlobNotFound(f"no object {sha256!r} is stored here") from error

    def read(self, sha256: str) -> bytes:
        """See :meth:`Blobs.read`."""
        with self.open(sha256) as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise _damaged(sha256)
        return content

    def materialise(self, files: Iterable[FileEntry], folder: Path) -> Path:
        """See :meth:`Blobs.materialise`. Files are hard links to the objects where the file system allows it."""
        entries = check_files(files)
        if _holds(folder, entries):
            return folder
        with writing(f"the folder {folder.name!r}"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        try:
            new = scratch / "new"
            for entry in entries:
                self._place(entry, new / entry.path)
            with writing(f"the folder {folder.name!r}"):
                _swap_in(new, folder, scratch / "old")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder

    def sweep(self, older_than_seconds: float = 86_400) -> int:
        """Remove what processes that were killed left unfinished; return how many files that were."""
        stale = [p for p in self._unfinished.glob("*") if p.stat().st_mtime < time.time() - older_than_seconds]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise BlobNotFound(f"{sha256!r} is no address of an object", hint="an address is 64 hexadecimal digits")
        return self._root / sha256[:2] / sha256

    @contextmanager
    def _new_file(self) -> Iterator[tuple[int, Path]]:
        with writing("an object"):
            self._unfinished.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._unfinished)
        try:
            yield descriptor, Path(name)
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    def _keep(self, descriptor: int, path: Path, sha256: str) -> None:
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)
        target = self._path(sha256)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)  # also over an existing one: putting a damaged object again heals it
        sync_folder(target.parent)

    def _place(self, entry: FileEntry, target: Path) -> None:
        source = self._path(entry.sha256)
        try:
            if _digest(source) != entry.sha256:
                raise _damaged(entry.sha256)
        except FileNotFoundError as error:
            raise BlobNotFound(f"no object {entry.sha256!r}, the file {entry.path!r}, is stored here") from error
        with writing(f"the file {entry.path!r}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, target)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, target)


def _holds(folder: Path, entries: list[FileEntry]) -> bool:
    """Tell whether ``folder`` holds exactly ``entries``, to the byte."""
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    if present.keys() != {entry.path for entry in entries} or not folder.is_dir():
        return False
    for entry in entries:
        path = present[entry.path]
        if path.is_symlink() or path.stat().st_size != entry.size_bytes or _digest(path) != entry.sha256:
            return False
    return True


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap_in(new: Path, folder: Path, old: Path) -> None:
    """Put the folder ``new`` in the place of ``folder``, whatever is there."""
    new.mkdir(exist_ok=True)
    with suppress(FileNotFoundError):
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError as error:
        # Another process was quicker: it had the same files to put there, so its folder is as good as ours.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _damaged(sha256: str) -> DigestMismatch:
    return DigestMismatch(f"the object {sha256!r} is damaged: its bytes have another digest")
