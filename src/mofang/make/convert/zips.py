"""What is in a zip archive a stranger sent: the names, bounded, and only if none leads out of a folder.

Nothing is extracted here. Formats of models that are zips (skops, torch, Keras) are told by their names.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mofang.base.domain.errors import InvalidModel

_END, _END_BYTES = b"PK\x05\x06", 22
_MOST_DIRECTORY_BYTES = 64 << 20
_MOST_ENTRIES = 100_000
_MOST_EXPANSION = 200
_SMALL_BYTES = 64 << 20


def names_in(path: Path) -> frozenset[str]:
    """Return the names of all entries.

    Raises InvalidModel for an archive that is damaged, that would lead out of its folder, or that blows up when it is
    unpacked.
    """
    _check_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InvalidModel(f"the zip archive is damaged: {error}", hint="copy or save the model again") from error
    for entry in entries:
        _check_name(entry)
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > max(_SMALL_BYTES, _MOST_EXPANSION * path.stat().st_size):
        raise InvalidModel(
            f"the zip archive of {path.stat().st_size:,} bytes says it unpacks to {unpacked:,}",
            hint="save the model again without compression",
        )
    return frozenset(entry.filename for entry in entries)


def _check_directory(path: Path) -> None:
    """Look at how long the directory is before :mod:`zipfile` reads it whole."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES - (1 << 16)))
        begin, tail = file.tell(), file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_BYTES:
            raise InvalidModel("the zip archive is cut short: it has no end", hint="copy or save the model again")
        entries, length = struct.unpack("<HI", tail[at + 10 : at + 16])
        if entries == 0xFFFF or length == 0xFFFFFFFF:
            entries, length = _wide(file, begin + at)
    if entries > _MOST_ENTRIES or length > _MOST_DIRECTORY_BYTES:
        raise InvalidModel(f"the zip archive has {entries:,} entries", hint="a model has some hundreds of them")


def _wide(file: BinaryIO, end: int) -> tuple[int, int]:
    """Return entries and length of the directory as zip64 has them; what cannot be read is none of ours."""
    file.seek(max(0, end - 20))
    locator = file.read(20)
    if locator[:4] != b"PK\x06\x07":
        return _MOST_ENTRIES + 1, 0
    file.seek(min(struct.unpack("<Q", locator[8:16])[0], end))
    record = file.read(56)
    if record[:4] != b"PK\x06\x06" or len(record) < 56:
        return _MOST_ENTRIES + 1, 0
    entries, length = struct.unpack("<QQ", record[32:48])
    return entries, length


def _check_name(entry: zipfile.ZipInfo) -> None:
    name = PurePosixPath(entry.filename)
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if (
        name.is_absolute()
        or ".." in name.parts
        or "\\" in entry.orig_filename
        or "\0" in entry.orig_filename
        or is_link
    ):
        raise InvalidModel(
            f"the zip archive holds {entry.orig_filename!r}, which leads out of its folder",
            hint="save the model again; archives of models hold plain files",
        )
