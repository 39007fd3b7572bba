"""Counters that outlive whoever counts: by key, in a file of its own, raised by one write each.

What engines compute is counted here, beside the journal and apart from it, so that the two can be compared. As with
the journal, what the kernel was given survives the death of the process; a power cut may take the last seconds.

A writer holds an flock on its file, which the kernel drops however the process ends. :class:`CounterArchive` adds the
files of the dead up, one total for each subject, so that their number stays small.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TypeVar

import msgspec

from mofang.base.domain.errors import MofangError, StorageUnavailable
from mofang.base.domain.usage import COUNTED
from mofang.base.storage.files import create_locked, replace_file, write_all, writing
from mofang.base.storage.journal import is_live

_SUFFIX, _TOTAL, _SINCE = ".count", ".total", "since"
_HEAD_BYTES = 1024  # of a file: what is counted, in JSON, filled up with spaces
_SLOT = struct.Struct(f"<64s{len(COUNTED)}Q")  # a key, and its counts in the order of the head's columns
_COLUMNS: dict[str, int] = {meter: index for index, meter in enumerate(COUNTED)}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)

Counts = dict[str, dict[str, int]]
"""By key (a tenant), by meter."""


class _Head(msgspec.Struct):
    subject: str
    columns: tuple[str, ...]


class Counters:
    """Counts meters by key for one ``subject`` (an endpoint). For one thread.

    Counting never fails: while the disk is full the counts are kept in memory, and written with the next that is.
    """

    def __init__(self, folder: Path, subject: str, writer: str) -> None:
        self._head = msgspec.json.encode(_Head(subject, COUNTED)).ljust(_HEAD_BYTES)
        self._folder = folder
        self._writer = f"{writer}-{os.getpid()}"
        self._descriptor = -1
        self._slots: dict[str, list[int]] = {}
        self._offsets: dict[str, int] = {}
        self._unwritten: set[str] = set()
        self._failing = False

    def open(self) -> None:
        """Make the file now, while it can be made; without it, with the first count. Raises OSError."""
        if self._descriptor < 0:
            self._begin()

    def add(self, key: str, quantities: Mapping[str, int]) -> None:
        """Raise the counts of ``key``; meters that are not in :data:`COUNTED` are passed over."""
        slot = self._slots.get(key)
        if slot is None:
            self._offsets[key] = _HEAD_BYTES + len(self._slots) * _SLOT.size
            slot = self._slots[key] = [0] * len(COUNTED)
        for meter, quantity in quantities.items():
            if (column := _COLUMNS.get(meter)) is not None:
                slot[column] += quantity
        self._unwritten.add(key)
        self._write()

    def close(self) -> None:
        """Nobody counts here any more."""
        self._write()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self) -> None:
        """Write what is not written yet, as far as there is room: a slot is whole, so one that failed is made good."""
        try:
            if self._unwritten:
                self.open()
            for key in [*self._unwritten]:
                slot = _SLOT.pack(key.encode(), *self._slots[key])
                if os.pwrite(self._descriptor, slot, self._offsets[key]) == _SLOT.size:
                    self._unwritten.discard(key)
        except (OSError, MofangError) as error:
            if not self._failing:  # said once, not with every request
                _log.warning("counters are kept in memory until they can be written: %s", error)
            self._failing = True
        else:
            self._failing = False

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._writer}-{time.time_ns() // 1000:016d}{_SUFFIX}"
        descriptor = create_locked(path)
        try:
            write_all(descriptor, self._head)
        except OSError:
            path.unlink()
            os.close(descriptor)
            raise
        self._descriptor = descriptor


class _Total(msgspec.Struct):
    """What the dead have counted of one subject, and the names of those files of theirs that may still be there."""

    subject: str
    counts: Counts = {}
    added: list[str] = []


class CounterArchive:
    """All counters under ``folder``: of the living and of the dead. For one process, and its threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()

    @property
    def since(self) -> int | None:
        """When counting began, microseconds since the epoch; None if it was never :meth:`opened <open>`."""
        try:
            return int((self._folder / _SINCE).read_text())
        except FileNotFoundError:
            return None

    def open(self, at: int, balances: Mapping[str, Counts]) -> None:
        """Begin to count ``at`` that time, from these balances of each subject. Raises StorageFull."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for subject, counts in balances.items():
            self._keep(_Total(subject, counts))
        replace_file(self._folder / _SINCE, str(at).encode())

    def read(self) -> dict[str, Counts]:
        """Return what was counted of every subject, up to now."""
        with self._lock:
            totals = self._totals()
            for path in self._files():
                _add(totals, path)
        return {subject: total.counts for subject, total in totals.items()}

    def fold(self) -> int:
        """Add the files of the dead to the totals, remove them, and return how many. May die anywhere and run again."""
        with self._lock:
            gone = [path for path in self._files() if not is_live(path)]
            if not gone:
                return 0
            totals = self._totals()
            changed = {_add(totals, path) for path in gone}
            for subject in changed - {""}:
                self._keep(totals[subject])
            for path in gone:
                path.unlink()
            return len(gone)

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"[!.]*{_SUFFIX}"))

    def _totals(self) -> dict[str, _Total]:
        totals = {}
        for path in self._folder.glob(f"[!.]*{_TOTAL}"):
            total = _decode(path, path.read_bytes(), _Total)
            total.added = [name for name in total.added if (self._folder / name).exists()]
            totals[total.subject] = total
        return totals

    def _keep(self, total: _Total) -> None:
        with writing("a total of counters"):
            replace_file(self._folder / f"{total.subject}{_TOTAL}", msgspec.json.encode(total))


def _add(totals: dict[str, _Total], path: Path) -> str:
    """Add a file to the total of its subject, which is returned; "" if it holds nothing."""
    content = path.read_bytes()
    if len(content) < _HEAD_BYTES:
        return ""  # it ended before it counted anything
    head = _decode(path, content[:_HEAD_BYTES], _Head)
    total = totals.setdefault(head.subject, _Total(head.subject, {}, []))
    if path.name in total.added:
        return head.subject
    total.added.append(path.name)
    slot = struct.Struct(f"<64s{len(head.columns)}Q")
    for offset in range(_HEAD_BYTES, len(content) - slot.size + 1, slot.size):
        name, *values = slot.unpack_from(content, offset)
        key = name.rstrip(b"\0").decode()
        if not key:
            continue  # given out, and not written
        counts = total.counts.setdefault(key, {})
        for meter, value in zip(head.columns, values, strict=True):
            if value:
                counts[meter] = counts.get(meter, 0) + value
    return head.subject


def _decode(path: Path, content: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise StorageUnavailable(f"counters in {path.name!r} cannot be read: {error}") from error
