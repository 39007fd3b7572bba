"""Fixtures for all tests: databases of both kinds.

``pytest`` runs the tests of stores on SQLite. ``pytest -m postgres`` runs the same tests on PostgreSQL, and nothing
else: on the server at MOFANG_TEST_POSTGRES (a URL of an administrator), or on one that is started for the session from
the newest of /usr/lib/postgresql/*/bin.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy import make_url

from mofang.base.storage.database import Database, metadata

settings.register_profile("any machine", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("any machine")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread, so that small networks of tests do not wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _on_postgres(config: pytest.Config) -> bool:
    expression = config.getoption("markexpr")
    return "postgres" in expression and "not postgres" not in expression


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database_url" in metafunc.fixturenames:
        on_postgres = _on_postgres(metafunc.config)
        kind = pytest.param("postgres", marks=pytest.mark.postgres) if on_postgres else "sqlite"
        metafunc.parametrize("database_url", [kind], indirect=True)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new, empty database, for tests that open it more than once."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mofang.db'}"
        return
    server = make_url(request.getfixturevalue("postgres_url"))
    name = f"mofang_{uuid.uuid4().hex}"
    administrator = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield server.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(database_url: str) -> Iterator[Database]:
    """A database without tables."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A database with the tables of every store that the tests import."""
    with empty_database.write() as connection:
        metadata.create_all(connection)
    return empty_database


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server whose user may create databases."""
    given = os.environ.get("MOFANG_TEST_POSTGRES")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the path of a Unix socket has at most 107 characters
    server = _Server(folder)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(folder)


class _Server:
    """A PostgreSQL server in ``folder``, reached by a Unix socket there; it refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None

    def start(self) -> str:
        if self._account:
            os.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        data = self._folder / "data"
        self._run("initdb", "-D", data, "-U", "mofang", "-A", "trust", "-E", "UTF8", "--locale", "C", "-N")
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off -c max_connections=50"
        self._run("pg_ctl", "-D", data, "-l", self._folder / "log", "-o", options, "-w", "start")
        return f"postgresql://mofang@/postgres?host={self._folder}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: str | Path) -> None:
        user = (
            {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []} if self._account else {}
        )
        command = [self._programs / program, *arguments]
        # Output to a file: the server keeps what it inherits open, so a pipe would never end.
        with (self._folder.parent / f"{self._folder.name}.out").open("w+") as output:
            done = subprocess.run(command, stdout=output, stderr=output, cwd=self._folder, **user)
            output.seek(0)
            Path(output.name).unlink()
            assert done.returncode == 0, output.read()
