"""A14 in its long form: four processes of fifty writers each, and a reader for a minute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contention import contend
from mofang.base.storage.database import Database


def test_two_hundred_writers_and_a_reader_for_a_minute(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    url = f"sqlite:///{tmp_path / 'mofang.db'}"
    database = Database(url)
    database.migrate()
    database.close()
    found = contend(tmp_path / "mofang.db", url, processes=4, threads=50, seconds=60.0)
    record_property("writes", found.writes)
    record_property("slowest", f"{found.slowest_seconds:.1f} s")
    record_property("log", f"{found.most_wal_bytes >> 20} MiB at most, {found.wal_bytes >> 20} MiB afterwards")
    assert found.failed == []
    assert found.least > 0
    assert found.wal_bytes < 64 << 20
