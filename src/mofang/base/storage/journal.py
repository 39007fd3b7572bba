"""Append-only journals: what must not be lost between an answer and its place in the database.

A writer (one gateway) appends to segments of its own; a reader (the settler) follows them. A segment is a row of
records, each ``magic, length, following, payload CRC, header CRC`` (little-endian, 32 bits each) and the payload.
``following`` counts the records of the same flush that come after this one: a flush is believed only when its last
record is there, so that a reader never sees a part of a flush that failed and was taken back.

This module knows bytes, not what they mean.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mofang.base.domain.errors import JournalDamaged
from mofang.base.storage.files import create_locked, sync_folder, write_all, writing

_MAGIC = b"MFJ1"
_HEADER = struct.Struct("<4sIII")
_CRC = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _CRC.size
_SUFFIX = ".journal"
_ALIVE = ".alive"


class JournalWriter:
    """Appends records to segments ``<writer>-<unix microseconds>-<sequence>.journal`` in ``folder``.

    Every writer begins a segment of its own with its first flush, and another when one has grown to
    ``segment_bytes``. It holds an flock on the one it writes, which the kernel drops however the process ends. For one
    thread.
    """

    def __init__(self, folder: Path, writer: str, *, segment_bytes: int = 64 << 20, syncs: bool = False) -> None:
        self._folder = folder
        self._writer = writer
        self._segment_bytes = segment_bytes
        self._syncs = syncs  # somebody calls unsynced()
        self._ended: list[int] = []  # copies of the descriptors of segments that ended unsynced
        self._dirty = False
        self._safe = self._marked = 0  # bytes of the segment that are synced, and that will be after the sync under way
        self._buffer: list[bytes] = []
        self._descriptor = -1
        self._size = 0
        self._sequence = 0

    def append(self, payload: bytes) -> None:
        """Buffer a record; it is safe when :meth:`flush` has returned."""
        self._buffer.append(payload)

    def flush(self) -> None:
        """Hand all buffered records to the kernel in one write: after it they survive the death of the process.

        Raises StorageFull or StorageUnavailable; then none of them is in the journal, none is buffered any more, and
        the writer can be used again.
        """
        if not self._buffer:
            return
        payloads, self._buffer = self._buffer, []
        data = b"".join(_frames(payloads))
        with writing("the journal"):
            if self._descriptor < 0:
                self._begin_segment()
            try:
                write_all(self._descriptor, data)
            except OSError:
                self._take_back()
                raise
        self._size += len(data)
        self._dirty = True
        if self._size >= self._segment_bytes:
            self._end_segment()

    def unsynced(self) -> list[int]:
        """Return descriptors of all that was flushed since the last call, for :func:`sync_all` in whatever thread."""
        descriptors, self._ended = self._ended, []
        if self._dirty and self._descriptor >= 0:
            descriptors.append(os.dup(self._descriptor))
        self._dirty = False
        self._safe, self._marked = self._marked, self._size
        return descriptors

    def abandon(self) -> None:
        """Take back what the sync that failed should have covered, as far as that can be done; write no more."""
        with suppress(OSError):
            if self._descriptor >= 0:
                os.ftruncate(self._descriptor, self._safe)
        self._buffer.clear()
        self._syncs = False
        self._end_segment()

    def close(self) -> None:
        """Flush, and end the segment. Raises as :meth:`flush`; the segment is ended nevertheless."""
        try:
            self.flush()
        finally:
            self._end_segment()

    def _begin_segment(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = create_locked(self._next_path(), os.O_WRONLY | os.O_APPEND)
        try:
            sync_folder(self._folder)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._size = descriptor, 0
        self._safe = self._marked = 0

    def _next_path(self) -> Path:
        self._sequence += 1
        return self._folder / f"{self._writer}-{time.time_ns() // 1000:016d}-{self._sequence:06d}{_SUFFIX}"

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            # What was written stays, but without the last record of its flush, so no reader believes it.
            self._end_segment()

    def _end_segment(self) -> None:
        if self._descriptor >= 0:
            if self._syncs and self._dirty:
                self._ended.append(os.dup(self._descriptor))  # keeps the lock too: it is live until it is synced
            os.close(self._descriptor)
        self._descriptor = -1


def sync_all(descriptors: list[int]) -> None:
    """Make what ``descriptors`` were written survive a power cut, and close them.

    Raises OSError. Then nobody knows what is on the disk, and a second sync would say nothing about it: never retry.
    """
    try:
        for descriptor in descriptors:
            os.fdatasync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def announce(folder: Path, writer: str) -> int:
    """Say that ``writer`` lives, until the descriptor that is returned is closed, however its process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = create_locked(_alive(folder, writer))
    sync_folder(folder)
    return descriptor


def is_gone(folder: Path, writer: str) -> bool:
    """Tell whether ``writer`` is dead and nothing it wrote is left in ``folder``: all of it is in the database."""
    path = _alive(folder, writer)
    if path.exists() and is_live(path):
        return False
    return not any(folder.glob(f"{writer}-*{_SUFFIX}"))  # asked last: the dead begin no segments


def forget(folder: Path, writer: str) -> None:
    """Remove what a writer that is gone had announced."""
    _alive(folder, writer).unlink(missing_ok=True)


def writers(folder: Path) -> set[str]:
    """Return every writer that announced itself and was not forgotten."""
    return {path.name.removesuffix(_ALIVE) for path in folder.glob(f"[!.]*{_ALIVE}")}


def writer_of(segment: str) -> str:
    """Return who wrote the segment of that name."""
    return segment.rsplit("-", 2)[0]


def _alive(folder: Path, writer: str) -> Path:
    return folder / f"{writer}{_ALIVE}"


def segments(folder: Path) -> list[Path]:
    """Return the segments in ``folder``, those of one writer in the order they were begun."""
    return sorted(folder.glob(f"[!.]*{_SUFFIX}"))


def is_live(path: Path) -> bool:
    """Tell whether a writer, in whatever process, still appends to the segment ``path``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield the records of the segment ``path`` from ``offset`` on, each with the offset after it.

    Stops before a torn tail: a record, or a flush, that is not all there (yet). Raises JournalDamaged if a bad record
    is followed by a good one, since that is damage and not the end.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    flush: list[tuple[bytes, int]] = []
    position = 0
    while (record := _record(content, position)) is not None:
        payload, following, position = record
        flush.append((payload, offset + position))
        if not following:
            yield from flush
            flush.clear()
    if _goes_on(content, position):
        raise JournalDamaged(f"segment {path.name!r} is damaged at byte {offset + position}, before its end")


def _frames(payloads: list[bytes]) -> list[bytes]:
    pieces: list[bytes] = []
    following = len(payloads)
    for payload in payloads:
        following -= 1
        header = _HEADER.pack(_MAGIC, len(payload), following, zlib.crc32(payload))
        pieces += (header, _CRC.pack(zlib.crc32(header)), payload)
    return pieces


def _header(content: bytes, position: int) -> tuple[int, int, int] | None:
    """Return length, following and payload CRC of the header at ``position``; None if there is no sound one."""
    if position + _HEADER_BYTES > len(content):
        return None
    magic, length, following, crc = _HEADER.unpack_from(content, position)
    (header_crc,) = _CRC.unpack_from(content, position + _HEADER.size)
    if magic != _MAGIC or zlib.crc32(content[position : position + _HEADER.size]) != header_crc:
        return None
    return length, following, crc


def _record(content: bytes, position: int) -> tuple[bytes, int, int] | None:
    """Return payload, following and end of the record at ``position``; None if there is no sound one."""
    header = _header(content, position)
    if header is None:
        return None
    length, following, crc = header
    start = position + _HEADER_BYTES
    payload = content[start : start + length]
    if len(payload) < length or zlib.crc32(payload) != crc:
        return None
    return payload, following, start + length


def _goes_on(content: bytes, bad: int) -> bool:
    """Tell whether a sound record comes after the unsound one at ``bad``."""
    header = _header(content, bad)
    # A sound header says where its record ends: what looks like a record before that is part of the payload.
    position = bad + 1 if header is None else bad + _HEADER_BYTES + header[0]
    while (position := content.find(_MAGIC, position)) >= 0:
        if _record(content, position) is not None:
            return True
        position += 1
    return False
