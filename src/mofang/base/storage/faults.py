"""What a driver's error means: the one table from faults of SQLite and PostgreSQL to our errors."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mofang.base.domain.errors import MofangError, StorageFull, StorageUnavailable

_SQLITE_FULL = {
    sqlite3.SQLITE_FULL: "the disk with the database is full",
    sqlite3.SQLITE_READONLY: "the database cannot be written: its file, folder or disk is read-only",
    sqlite3.SQLITE_IOERR: "the disk with the database does not take writes",
}
_SQLITE_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "the database is busy: another process held it too long",
    sqlite3.SQLITE_LOCKED: "the database is busy: another process held it too long",
    sqlite3.SQLITE_CANTOPEN: "the database file cannot be opened",
    sqlite3.SQLITE_PERM: "the database file may not be opened",
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the database file is no database",
}
_POSTGRES_FULL = {
    "53100": "the disk of the database server is full",
    "25006": "the database server is read-only",
}


def translate(error: SQLAlchemyError, folder: Path | None) -> MofangError | None:
    """Return StorageFull or StorageUnavailable for a fault of the store; None if the statement is at fault.

    ``folder`` is where a SQLite file lies: SQLite says "cannot open" for a missing folder and for a read-only one.
    """
    cause: BaseException | None = error
    while cause is not None:
        # A full disk makes SQLite drop the whole transaction: what is seen first is that a savepoint is gone.
        meaning = _meaning(cause, folder)
        if meaning is not None:
            return meaning
        cause = cause.__context__
    return None


def is_busy(error: DBAPIError) -> bool:
    """Tell whether SQLite refused since another connection writes."""
    return isinstance(error.orig, sqlite3.Error) and error.orig.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _meaning(error: BaseException, folder: Path | None) -> MofangError | None:
    if isinstance(error, PoolTimeout):
        return StorageUnavailable("no connection to the database became free in time", retry_after_seconds=1)
    if not isinstance(error, DBAPIError):
        return None
    if isinstance(error.orig, sqlite3.Error):
        return _of_sqlite(error.orig, folder)
    full = _POSTGRES_FULL.get(getattr(error.orig, "sqlstate", None) or "")
    if full:
        return StorageFull(full, retry_after_seconds=5)
    if isinstance(error, OperationalError | InterfaceError):
        return StorageUnavailable(f"the database cannot be reached: {_first_line(error)}", retry_after_seconds=1)
    return None


def _of_sqlite(error: sqlite3.Error, folder: Path | None) -> MofangError | None:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest its details
    if code == sqlite3.SQLITE_CANTOPEN and _is_read_only(folder):
        code = sqlite3.SQLITE_READONLY
    if code in _SQLITE_FULL:
        return StorageFull(_SQLITE_FULL[code], retry_after_seconds=5)
    if code in _SQLITE_UNAVAILABLE:
        return StorageUnavailable(_SQLITE_UNAVAILABLE[code], retry_after_seconds=1)
    return None


def _is_read_only(folder: Path | None) -> bool:
    return folder is not None and os.path.isdir(folder) and not os.access(folder, os.W_OK, effective_ids=True)


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]
