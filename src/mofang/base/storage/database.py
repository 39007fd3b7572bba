"""The database: one class over SQLite (the default) and PostgreSQL, with transactions that join.

Every ``store.py`` declares its tables on :data:`metadata` and receives a :class:`Database`; nothing else speaks
SQL. This module knows connections, transactions and the faults of drivers. It must not know a single table.

There is one writer at a time, on both databases: what a store reads inside :meth:`Database.write` is still true
when it writes. That is what SQLite does anyway; on PostgreSQL an advisory lock does it, so that a store is right
on both without knowing which one it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import URL, BigInteger, Connection, Engine, Integer, MetaData, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mofang.base.domain.access import EVERYTHING, Scope
from mofang.base.domain.errors import InvalidSettings, StorageUnavailable
from mofang.base.storage.faults import is_busy, translate
from mofang.base.storage.migrations import upgrade
from mofang.base.storage.turns import Turns

BUSY_SECONDS = 10.0
"""How long a writer waits for the writers before it."""
WAL_LIMIT_BYTES = 16 << 20
"""What SQLite's write-ahead log shrinks back to after a long reader let it grow."""
_WRITER_LOCK = 0x6D6F66616E67  # "mofang": the advisory lock that makes PostgreSQL's writers queue

Serial = BigInteger().with_variant(Integer, "sqlite")
"""The type of a primary key that counts up by itself; SQLite does that for INTEGER alone."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables of the platform. Constraints are named by rule, so that migrations can speak of them.

The rule takes the first column: PostgreSQL has room for 63 characters. A second constraint that begins with the same
column needs a name of its own.
"""


@dataclass(frozen=True, slots=True)
class _Transaction:
    connection: Connection
    thread: int


class Database:
    """Transactions on one database, for any number of threads and processes at once.

    Transactions raise StorageFull if the disk is full or read-only, and StorageUnavailable if the database cannot
    be reached or is held too long. IntegrityError passes, since only the store knows what it means.
    """

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        """Take ``sqlite:////absolute/mofang.db`` or ``postgresql+psycopg://...``; nothing is opened yet.

        Raises InvalidSettings for what is no such URL.
        """
        self.url = _read_url(url)
        self._is_sqlite = self.url.get_backend_name() == "sqlite"
        self._busy_seconds = busy_seconds
        self._engine = (_sqlite_engine if self._is_sqlite else _postgres_engine)(url, busy_seconds)
        self._folder = Path(self.url.database).parent if self._is_sqlite and self.url.database else None
        self._writers = Turns()
        self._current: ContextVar[_Transaction | None] = ContextVar("transaction", default=None)
        self._scope: ContextVar[Scope] = ContextVar("scope", default=EVERYTHING)

    @property
    def scope(self) -> Scope:
        """On whose behalf the database is used now; the server's own, unless somebody else is :meth:`acting`."""
        return self._scope.get()

    @contextmanager
    def acting(self, scope: Scope) -> Iterator[None]:
        """Use the database on somebody's behalf: stores show what ``scope`` reaches, and nothing else exists.

        It holds in this thread or task, and in those that are started from it.
        """
        token = self._scope.set(scope)
        try:
            yield
        finally:
            self._scope.reset(token)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that may write; it commits at the end of the block, or rolls back if that raises.

        Inside another ``write()`` of the same thread and context it joins that one: both commit together. If the inner
        block raises, its part alone is undone, and the outer one may catch the error and go on. Nothing slow belongs
        in the block, no network call and no ``await``: every other writer waits.
        """
        joined = self._joined()
        if joined is not None:
            with joined.begin_nested():
                yield joined
            return
        if not self._writers.acquire(self._busy_seconds):
            raise StorageUnavailable("the database is busy: another writer held it too long", retry_after_seconds=1)
        try:
            with self._begin(writes=True) as connection:
                token = self._current.set(_Transaction(connection, threading.get_ident()))
                try:
                    yield connection
                finally:
                    self._current.reset(token)
        finally:
            self._writers.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that sees the newest committed state; inside a ``write()`` it joins that one."""
        joined = self._joined()
        if joined is not None:
            yield joined
            return
        with self._begin(writes=False) as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables to the newest revision. Several processes may call it at once."""
        with self.write() as connection:
            upgrade(connection)

    def scrub(self) -> None:
        """Have what was deleted leave the files as well, as far as the database lets one: SQLite's log is emptied.

        SQLite overwrites what is deleted (``secure_delete``); PostgreSQL does when it vacuums.
        """
        if self._is_sqlite:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()

    def _joined(self) -> Connection | None:
        """Return the connection of the surrounding write(), if there is one."""
        # A context is copied into new tasks and threads: there, or after its end, the transaction is not to be joined.
        current = self._current.get()
        if current is None or current.thread != threading.get_ident() or current.connection.closed:
            return None
        return current.connection

    @contextmanager
    def _begin(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with (
                self._engine.connect() as connection,
                connection.execution_options(mofang_writes=writes).begin(),
            ):
                yield connection
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            fault = translate(error, self._folder)
            if fault is None:
                raise
            raise fault from error


def _read_url(text: str) -> URL:
    hint = "write sqlite:////PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
    try:
        url = make_url(text)
    except ArgumentError:
        raise InvalidSettings("the database's URL cannot be read", hint=hint) from None  # it may hold a password
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise InvalidSettings(f"{url.drivername!r} is no kind of database that can be used", hint=hint)
    if url.drivername != "sqlite" and find_spec("psycopg") is None:
        raise InvalidSettings("the driver of PostgreSQL is not installed", hint="pip install 'mofang[postgres]'")
    return url


def _sqlite_engine(url: str, busy_seconds: float) -> Engine:
    # Last in, first out: each connection has a page cache of its own, so that fewer of them hold less and know more.
    engine = create_engine(url, pool_size=4, max_overflow=28, pool_timeout=busy_seconds, pool_use_lifo=True)
    event.listen(engine, "connect", lambda connection, _: _open_sqlite(connection, busy_seconds))
    event.listen(engine, "begin", lambda connection: _begin_sqlite(connection, busy_seconds))
    return engine


def _open_sqlite(connection: DBAPIConnection, busy_seconds: float) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: _begin_sqlite does
    for pragma in (
        f"busy_timeout = {busy_seconds * 1000:.0f}",
        "journal_mode = WAL",
        f"journal_size_limit = {WAL_LIMIT_BYTES}",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",  # what is erased must be gone from the file
    ):
        connection.cursor().execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection, busy_seconds: float) -> None:
    writes = connection.get_execution_options().get("mofang_writes", True)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writes else 'ON'}")
    if not writes:
        connection.exec_driver_sql("BEGIN DEFERRED")
        return
    # A deferred transaction that turns into a writer can fail as "locked" at once: writers say so at the start. SQLite
    # looks after 1, 2, 5, ... and in the end every 100 ms whether other processes let it in, and among busy ones waits
    # for seconds. So its waiting is begun anew every few milliseconds.
    deadline = time.monotonic() + busy_seconds
    connection.exec_driver_sql("PRAGMA busy_timeout = 8")
    try:
        while not _begin_immediate(connection, last_try=time.monotonic() > deadline):
            pass
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {busy_seconds * 1000:.0f}")


def _begin_immediate(connection: Connection, *, last_try: bool) -> bool:
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if last_try or not is_busy(error):
            raise
        return False
    return True


def _postgres_engine(url: str, busy_seconds: float) -> Engine:
    options = f"-c lock_timeout={busy_seconds * 1000:.0f} -c timezone=UTC"
    engine = create_engine(
        url,
        pool_size=4,
        max_overflow=12,
        pool_timeout=busy_seconds,
        pool_pre_ping=True,
        connect_args={"options": options, "connect_timeout": max(2, round(busy_seconds))},
    )
    event.listen(engine, "begin", _begin_postgres)
    return engine


def _begin_postgres(connection: Connection) -> None:
    if connection.get_execution_options().get("mofang_writes", True):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
