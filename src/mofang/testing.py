"""Fakes and shortcuts for tests of this package and of what is built on it; the platform imports none of it."""

from __future__ import annotations

from pathlib import Path

from mofang.base.storage.database import Database, metadata


def open_database(folder: Path) -> Database:
    """Return a SQLite database in ``folder`` with the tables of every store that was imported so far."""
    database = Database(f"sqlite:///{folder.absolute() / 'mofang.db'}")
    with database.write() as connection:
        metadata.create_all(connection)
    return database
