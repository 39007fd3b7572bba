from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import inspect

from mofang.base.storage.database import Database
from mofang.base.storage.revise import all_tables, differences


def test_the_revisions_lead_to_the_tables_of_all_stores(empty_database: Database) -> None:
    empty_database.migrate()
    with empty_database.read() as connection:
        assert differences(connection) == []
        assert set(inspect(connection).get_table_names()) == {*all_tables().tables, "alembic_version"}


def test_migrating_again_changes_nothing_and_prints_nothing(
    empty_database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    empty_database.migrate()
    empty_database.migrate()
    assert capfd.readouterr() == ("", "")


def test_processes_migrate_at_once(database_url: str) -> None:
    program = (
        "import sys; from mofang.base.storage.database import *; d = Database(sys.argv[1]); d.migrate(); d.close()"
    )
    command = [sys.executable, "-W", "error", "-c", program, database_url]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 3
