"""Doing a thing once, whoever asks how often: claims and answers as files, shared by all processes of a machine.

A claim is a file that its claimer holds locked while it works. The kernel decides between two who come at once, and
frees the lock of one who dies; whoever comes then takes the claim over, under the name the work already had. The answer
is written into the same file, whole or not at all (a checksum tells), so reading one needs no lock and no process asks
another.

A file is ``magic, fingerprint (32 bytes), name``, then, with the answer, ``length, CRC`` (little-endian, 32 bits each)
and its bytes. What is older than its time to live does not count; :meth:`Once.sweep` removes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mofang.base.domain.errors import KeyReused
from mofang.base.storage.files import write_all, writing

NAME_BYTES = 30  # of a request id
_MAGIC = b"MFO1"
_HEAD_BYTES = len(_MAGIC) + 32 + NAME_BYTES
_ANSWER = struct.Struct("<II")


class Claim:
    """Work that is to be done here, as ``name``; ended by one of :meth:`finish`, :meth:`drop` and :meth:`leave`."""

    def __init__(self, path: Path, descriptor: int, name: str) -> None:
        self.name = name
        self._path = path
        self._descriptor = descriptor

    def finish(self, answer: bytes) -> None:
        """Keep the answer for all who ask again. Raises StorageFull; the claim is left then."""
        try:
            with writing("an answer that is kept"):
                write_all(self._descriptor, _ANSWER.pack(len(answer), zlib.crc32(answer)) + answer)
        finally:
            self.leave()

    def drop(self) -> None:
        """It was not done, and may be done otherwise: forget that anybody asked."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        self.leave()

    def leave(self) -> None:
        """Whether it was done cannot be said: whoever asks again does it under the same name."""
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer that was given before."""

    answer: bytes


class Once:
    """Claims in ``folder``, each good for ``seconds`` after it was made or answered."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds

    def attempt(self, scope: str, key: str, asked: bytes, name: str) -> Claim | Kept | Literal["busy"]:
        """Claim what ``scope`` calls ``key``, or return the answer it had; "busy" while somebody else is at it.

        ``asked`` says what is asked, ``name`` (30 ASCII characters) what a new claim is called. Raises KeyReused if the
        key was used for something else, and StorageFull.
        """
        path = self._folder / hashlib.sha256(f"{scope}\0{key}".encode()).hexdigest()
        fingerprint = hashlib.sha256(asked).digest()
        while True:
            with writing("the claim of a request"):
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                found = self._enter(path, descriptor, fingerprint, key, name)
            except BaseException:
                os.close(descriptor)
                raise
            if not isinstance(found, Claim):
                os.close(descriptor)
            if found != "gone":
                return found

    def sweep(self, most_bytes: int) -> int:
        """Remove what is too old, and the oldest until the rest has ``most_bytes``; return how many files went."""
        entries = []
        for entry in os.scandir(self._folder) if self._folder.exists() else ():
            with suppress(FileNotFoundError):
                entries.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        kept, removed = 0, 0
        for at, size, path in sorted(entries, reverse=True):
            kept += size
            if (at < time.time() - self._seconds or kept > most_bytes) and _remove(path):
                removed += 1
        return removed

    def _enter(
        self, path: Path, descriptor: int, fingerprint: bytes, key: str, name: str
    ) -> Claim | Kept | Literal["busy", "gone"]:
        content = self._read(descriptor)
        if (answer := _answer(content)) is not None:
            _check(content, fingerprint, key)
            return Kept(answer)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _check(content, fingerprint, key)
            return "busy"
        if not _is_at(path, descriptor):
            return "gone"  # dropped between our opening and our locking it
        content = self._read(descriptor)  # again: it may have been answered in between
        if len(content) < _HEAD_BYTES or content[: len(_MAGIC)] != _MAGIC:
            with writing("the claim of a request"):
                os.ftruncate(descriptor, 0)
                os.lseek(descriptor, 0, os.SEEK_SET)
                write_all(descriptor, _MAGIC + fingerprint + name.encode("ascii"))
            return Claim(path, descriptor, name)
        _check(content, fingerprint, key)
        if (answer := _answer(content)) is not None:
            return Kept(answer)
        os.ftruncate(descriptor, _HEAD_BYTES)  # a torn answer
        os.lseek(descriptor, 0, os.SEEK_END)
        return Claim(path, descriptor, content[len(_MAGIC) + 32 : _HEAD_BYTES].decode("ascii"))

    def _read(self, descriptor: int) -> bytes:
        """Return what the file holds; nothing, if that is too old to count."""
        status = os.fstat(descriptor)
        if status.st_mtime < time.time() - self._seconds:
            return b""
        return os.pread(descriptor, status.st_size, 0)


def _answer(content: bytes) -> bytes | None:
    start = _HEAD_BYTES + _ANSWER.size
    if len(content) < start:
        return None
    length, crc = _ANSWER.unpack_from(content, _HEAD_BYTES)
    answer = content[start : start + length]
    return answer if len(answer) == length and zlib.crc32(answer) == crc else None


def _check(content: bytes, fingerprint: bytes, key: str) -> None:
    start = len(_MAGIC)
    if len(content) >= _HEAD_BYTES and content[start : start + 32] != fingerprint:
        raise KeyReused(f"idempotency key {key!r} was used for another request")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _remove(path: str) -> bool:
    """Remove a file that nobody works on."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
