"""Many writers and a long reader on one SQLite database, through real stores, in processes of their own."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_WRITERS = """
import json, sys, threading, time
from mofang.base.audit.store import AuditStore
from mofang.base.jobs.store import JobStore
from mofang.base.storage.database import Database

url, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
database = Database(url)
audit, jobs = AuditStore(database), JobStore(database)
done, failed, slowest = [0] * threads, [], [0.0] * threads
until = time.monotonic() + seconds

def write(number):
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            with database.write():
                job = jobs.submit("train", {"writer": number}, "ada")
                audit.append("ada", "run.start", job.id, before=None, after={"filler": "x" * 500})
            done[number] += 1
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
        slowest[number] = max(slowest[number], time.monotonic() - began)

running = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
for thread in running: thread.start()
for thread in running: thread.join()
print(json.dumps({"writes": sum(done), "least": min(done), "slowest_seconds": max(slowest), "failed": failed[:5]}))
database.close()
"""
_READER = """
import sys, time
from sqlalchemy import text
from mofang.base.storage.database import Database

database, seconds = Database(sys.argv[1]), float(sys.argv[2])
with database.read() as connection:
    first = connection.scalar(text("SELECT count(*) FROM jobs"))
    time.sleep(seconds)  # somebody looks at one and the same state for that long
    assert connection.scalar(text("SELECT count(*) FROM jobs")) == first
database.close()
"""


@dataclass(frozen=True, slots=True)
class Contention:
    """What came of it."""

    writes: int
    least: int  # of one writer
    slowest_seconds: float
    failed: list[str]
    wal_bytes: int  # afterwards, after one more write
    most_wal_bytes: int  # while the reader held the log back


def contend(database: Path, url: str, *, processes: int, threads: int, seconds: float) -> Contention:
    """Write from so many threads in each of so many processes, while one reader holds a snapshot."""
    log = database.with_name(database.name + "-wal")
    with closing(sqlite3.connect(database)) as open_all_the_time:  # as a server is: the last to close removes the log
        open_all_the_time.execute("SELECT count(*) FROM jobs").fetchone()
        reader = subprocess.Popen([sys.executable, "-c", _READER, url, str(seconds)])
        command = [sys.executable, "-c", _WRITERS, url, str(threads), str(seconds)]
        writers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        most = 0
        while any(writer.poll() is None for writer in writers):
            most = max(most, log.stat().st_size)
            time.sleep(0.1)
        told = [json.loads(writer.communicate()[0]) for writer in writers]
        assert reader.wait(60) == 0
        last = subprocess.run([*command[:-2], "1", "0.5"], stdout=subprocess.PIPE, text=True, check=True)
        told.append(json.loads(last.stdout))
        left = log.stat().st_size
    return Contention(
        sum(each["writes"] for each in told),
        min(each["least"] for each in told[:-1]),
        max(each["slowest_seconds"] for each in told),
        [failure for each in told for failure in each["failed"]],
        left,
        most,
    )
