from __future__ import annotations

import contextvars
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from mofang.base.domain.errors import StorageFull, StorageUnavailable
from mofang.base.storage.database import Database
from mofang.testing import open_database

rows = Table("rows", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text))


@pytest.fixture
def table(empty_database: Database) -> Database:
    with empty_database.write() as connection:
        rows.metadata.create_all(connection)
    return empty_database


def _count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(rows)) or 0


def test_a_block_that_raises_leaves_nothing(table: Database) -> None:
    def fail() -> None:
        with table.write() as connection:
            connection.execute(insert(rows).values(id=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _count(table) == 0


def test_an_inner_write_joins_the_outer_one(table: Database) -> None:
    def fail() -> None:
        with table.write():
            with table.write() as inner:
                inner.execute(insert(rows).values(id=1))
            assert _count(table) == 1  # a read joins as well
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert _count(table) == 0


def test_an_inner_write_that_raises_undoes_its_own_part_only(table: Database) -> None:
    def fail() -> None:
        with table.write() as inner:
            inner.execute(insert(rows).values(id=2))
            inner.execute(insert(rows).values(id=1))

    with table.write() as outer:
        outer.execute(insert(rows).values(id=1))
        with pytest.raises(IntegrityError):
            fail()
        outer.execute(insert(rows).values(id=3))
    with table.read() as connection:
        assert connection.scalars(select(rows.c.id).order_by(rows.c.id)).all() == [1, 3]


def test_a_read_sees_what_was_just_committed_elsewhere(table: Database, database_url: str) -> None:
    other = Database(database_url)
    for number in range(20):
        with other.write() as connection:
            connection.execute(insert(rows).values(id=number))
        assert _count(table) == number + 1
    other.close()


def test_a_read_sees_one_state_to_its_end(table: Database) -> None:
    with table.read() as reader:
        assert reader.scalar(select(func.count()).select_from(rows)) == 0
        with table.write() as writer:
            writer.execute(insert(rows).values(id=1))
        assert reader.scalar(select(func.count()).select_from(rows)) == 0
    assert _count(table) == 1


def test_a_read_cannot_write(table: Database) -> None:
    with pytest.raises(StorageFull), table.read() as connection:
        connection.execute(insert(rows).values(id=1))


def test_another_thread_has_its_own_transaction_even_with_a_copied_context(table: Database) -> None:
    seen: list[int] = []
    with table.write() as connection:
        connection.execute(insert(rows).values(id=1))
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(lambda: seen.append(_count(table)),))
        thread.start()
        thread.join()
    assert seen == [0]


def test_a_context_that_outlives_its_transaction_opens_a_new_one(table: Database) -> None:
    with table.write():
        context = contextvars.copy_context()
    assert context.run(_count, table) == 0


def test_read_modify_write_is_safe_between_threads(table: Database) -> None:
    def append(_: int) -> None:
        with table.write() as connection:
            last = connection.scalar(select(func.max(rows.c.id))) or 0
            connection.execute(insert(rows).values(id=last + 1))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(append, range(64)))
    assert _count(table) == 64


_PROCESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from sqlalchemy import text
from mofang.base.storage.database import Database

database = Database(sys.argv[1])

def append(number):
    with database.write() as connection:
        last = connection.scalar(text("SELECT max(id) FROM rows")) or 0
        connection.execute(text("INSERT INTO rows (id, text) VALUES (:id, :text)"), {"id": last + 1, "text": "x" * 99})
    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM rows")) > 0

with ThreadPoolExecutor(8) as pool:
    list(pool.map(append, range(60)))
database.close()
"""


def test_processes_write_at_once_and_none_is_told_locked(table: Database, database_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", _PROCESS, database_url]
    with table.read() as reader:  # holds the write-ahead log open meanwhile
        reader.scalar(select(func.count()).select_from(rows))
        children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
        assert [child.communicate(timeout=60)[1] for child in children] == [""] * 4
    assert _count(table) == 240
    assert sum(path.stat().st_size for path in tmp_path.glob("*-wal")) < 64 << 20


def test_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from mofang.testing import *; from pathlib import Path; open_database(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 6


def test_a_writer_that_waits_too_long_is_told(table: Database, database_url: str) -> None:
    other = Database(database_url, busy_seconds=0.05)
    with table.write(), pytest.raises(StorageUnavailable, match=r"busy|cannot be reached"), other.write():
        pass
    with other.write() as connection:
        connection.execute(insert(rows).values(id=1))
    assert _count(table) == 1
    other.close()


def test_a_thread_that_waits_too_long_is_told(database_url: str) -> None:
    database = Database(database_url, busy_seconds=0.05)

    def write() -> None:
        with database.write():
            pass

    with ThreadPoolExecutor(1) as pool, database.write(), pytest.raises(StorageUnavailable, match="busy"):
        pool.submit(write).result()
    write()
    database.close()


def test_a_wrong_statement_is_our_own_fault_and_passes(table: Database) -> None:
    with pytest.raises((OperationalError, ProgrammingError)), table.read() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'nowhere' / 'mofang.db'}")
    with pytest.raises(StorageUnavailable, match="cannot be opened"), database.read():
        pass
    database.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mofang.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageUnavailable, match="is no database"):
        open_database(tmp_path)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    database = Database(f"postgresql+psycopg://mofang@/mofang?host={tmp_path}")
    with pytest.raises(StorageUnavailable, match="cannot be reached"), database.write():
        pass
    database.close()


_FULL_DISK = """
import resource, sys
from pathlib import Path
from sqlalchemy import text
from mofang.base.domain.errors import StorageFull
from mofang.base.storage.database import Database

database = Database(f"sqlite:///{sys.argv[1]}/mofang.db")
with database.write() as connection:
    connection.execute(text("CREATE TABLE filler (x TEXT)"))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
for nested in (False, True):
    try:
        with database.write() as connection:
            if nested:
                with database.write() as connection:
                    connection.execute(text("INSERT INTO filler VALUES (:x)"), {"x": "x" * 10_000_000})
            else:
                connection.execute(text("INSERT INTO filler VALUES (:x)"), {"x": "x" * 10_000_000})
    except StorageFull as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
with database.write() as connection:
    connection.execute(text("INSERT INTO filler VALUES ('small')"))
    print(connection.scalar(text("SELECT count(*) FROM filler")))
database.close()
"""


def test_a_full_disk_is_told_and_left_behind(run_child: Callable[..., list[str]], tmp_path: Path) -> None:
    first, second, count = run_child(_FULL_DISK, tmp_path)
    assert "disk" in first
    assert "disk" in second
    assert count == "1"


_READ_ONLY = """
import os, sys
from pathlib import Path
from sqlalchemy import text
from mofang.base.domain.errors import MofangError
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database
from mofang.base.storage.journal import JournalWriter

folder = Path(sys.argv[1])
folder.chmod(0o555)
(folder / "mofang.db").chmod(0o444)
if os.geteuid() == 0:
    os.setegid(65534), os.seteuid(65534)
database = Database(f"sqlite:///{folder}/mofang.db")
journal = JournalWriter(folder / "journal", "gateway")
journal.append(b"answer")

def write():
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (x TEXT)"))

for attempt in (write, lambda: DiskBlobs(folder / "blobs").put([b"bytes"]), journal.flush):
    try:
        attempt()
    except MofangError as error:
        print(error.code, error)
database.close()
"""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter: pytest closes the parents of its own ones, again at every start."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_directory_is_told(run_child: Callable[..., list[str]], public_folder: Path) -> None:
    data = public_folder / "data"
    data.mkdir()
    open_database(data).close()
    lines = run_child(_READ_ONLY, data)
    assert [line.split()[0] for line in lines] == ["storage.full"] * 3
