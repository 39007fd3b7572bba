"""A14, short: writers in several processes and a long reader on SQLite; nobody is told that it is locked."""

from __future__ import annotations

from pathlib import Path

from contention import contend
from mofang.base.storage.database import Database


def test_many_writers_and_a_long_reader(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mofang.db'}"
    database = Database(url)
    database.migrate()
    found = contend(tmp_path / "mofang.db", url, processes=3, threads=10, seconds=3.0)
    assert found.failed == []
    assert found.writes > 30
    assert found.wal_bytes < 64 << 20
    database.close()
