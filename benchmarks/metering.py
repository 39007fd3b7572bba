"""What metering costs: records a second, beside the least work that could do the same.

    python benchmarks/metering.py [--records N] [--rounds N] [--turn N] [--folder DIR]

The recorder is compared with appending the same bytes to a plain file, one write a turn, and the settler with inserting
the same event rows into the same SQLite table by ``executemany``, in transactions as large. The four take turns, and
medians are printed, so that a busy machine is busy for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import uvloop

from mofang.base.domain.names import new_id, now_us
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database, metadata
from mofang.base.storage.journal import JournalWriter, segments
from mofang.sell.meter.codec import encode
from mofang.sell.meter.folding import RecordRow, new_rows, series_of
from mofang.sell.meter.recorder import Recorder
from mofang.sell.meter.settler import CHUNK_RECORDS, Settler
from mofang.sell.meter.store import UsageStore

INSERT = (
    "INSERT INTO usage_records (seq, series_id, request_id, attempt, at, meters_id, quantities)"
    " VALUES (?, ?, ?, ?, ?, 1, ?)"
)


def make_records(count: int) -> list[UsageRecord]:
    """Records as a gateway makes them for a small classifier."""
    quantities = {"requests": 1, "rows": 1, "compute_us": 180, "input_bytes": 512, "output_bytes": 96}
    return [
        UsageRecord(
            request_id=new_id("req"), at=now_us(), tenant="acme", project="vision", key_id=f"key{number % 20}",
            endpoint="digits", revision=3, version=2, digest="sha256:" + "ab" * 32, outcome="ok", quantities=quantities,
        )
        for number in range(count)
    ]  # fmt: skip


async def record_all(folder: Path, records: list[UsageRecord], turn: int) -> None:
    """Record ``turn`` records in each turn of the loop, and wait for them as a gateway's answers do."""
    recorder = Recorder(JournalWriter(folder, "gateway-0"))
    for first in range(0, len(records), turn):
        done = asyncio.Event()
        for record in records[first : first + turn]:
            recorder.record(record, lambda error, done=done: done.set())  # type: ignore[misc]
        await done.wait()
    recorder.close()


def append_all(path: Path, payloads: list[bytes], turn: int) -> None:
    """Write the same bytes to a plain file, one write a turn."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for first in range(0, len(payloads), turn):
        os.write(descriptor, b"".join(payloads[first : first + turn]))
    os.close(descriptor)


def insert_all(path: Path, rows: list[RecordRow], size: int) -> None:
    """Insert the same rows, in transactions of ``size``."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        plain = [(*row[:5], row[6]) for row in rows]
        for first in range(0, len(rows), size):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, plain[first : first + size])
            connection.execute("COMMIT")


def empty_ledger(path: Path) -> Database:
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        metadata.create_all(connection)
    return database


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_round(folder: Path, records: list[UsageRecord], turn: int) -> dict[str, float]:
    """Do each of the four once; return the seconds each took."""
    payloads = [encode(record) for record in records]
    series = {key: number for number, key in enumerate({series_of(record) for record in records}, 1)}
    rows, _ = new_rows(records, [series[series_of(record)] for record in records], {}, 0)
    took = {
        "recorder": seconds(lambda: uvloop.run(record_all(folder / "journal", records, turn))),
        "plain append": seconds(lambda: append_all(folder / "plain", payloads, turn)),
    }
    ledger, plain = empty_ledger(folder / "ledger.db"), empty_ledger(folder / "plain.db")
    store = UsageStore(ledger)
    took["settler"] = seconds(Settler(folder / "journal", store).fold)
    took["plain insert"] = seconds(lambda: insert_all(folder / "plain.db", rows, CHUNK_RECORDS))
    if store.count() != rows[-1][0] or segments(folder / "journal"):
        raise SystemExit("the settler did not fold everything: these figures are worth nothing")
    ledger.close()
    plain.close()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn", type=int, default=32, help="records of one event-loop turn")
    parser.add_argument("--folder", type=Path, help="where to write (default: the folder for temporary files)")
    arguments = parser.parse_args()
    records = make_records(arguments.records)
    rounds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            rounds.append(one_round(Path(folder), records, arguments.turn))
    speed = {name: statistics.median(len(records) / took[name] for took in rounds) for name in rounds[0]}
    for name, beside in (("recorder", "plain append"), ("settler", "plain insert")):
        ratio = statistics.median(took[beside] / took[name] for took in rounds)
        print(f"{name:12} {speed[name]:>12,.0f} records/s  {1e6 / speed[name]:8.2f} µs each")
        print(f"{beside:12} {speed[beside]:>12,.0f} records/s  {name} / {beside}: {ratio:.3f}")


if __name__ == "__main__":
    main()
