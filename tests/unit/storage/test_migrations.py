from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from sqlalchemy import inspect, text

from mofang.base.domain.access import Scope
from mofang.base.storage.database import Database
from mofang.base.storage.migrations import config
from mofang.base.storage.revise import all_tables, differences
from mofang.make.prepare.store import DatasetStore


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


def test_a_database_of_this_release_needs_no_alembic(database_url: str) -> None:
    program = (
        "import sys; from mofang.base.storage.database import *; d = Database(sys.argv[1]); d.migrate(); d.close()"
        "; print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", program, database_url]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert said == ["True\n", "False\n"]


def test_processes_migrate_at_once(database_url: str) -> None:
    program = (
        "import sys; from mofang.base.storage.database import *; d = Database(sys.argv[1]); d.migrate(); d.close()"
    )
    command = [sys.executable, "-W", "error", "-c", program, database_url]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [child.communicate(timeout=60)[1] for child in children] == [""] * 3


def test_datasets_of_before_have_the_projects_that_owned_them(empty_database: Database) -> None:
    with empty_database.write() as connection:
        command.upgrade(config(connection), "0014")
        connection.execute(
            text(
                "INSERT INTO datasets (digest, name, source, task, splits, schema, created_at, removed) VALUES"
                " ('sha256:1', 'flowers', 'csv:/f.csv', 'classification', '{}',"
                """ '{"features": 4, "dtype": "float32", "labels": ["a"]}', 7, '{}')"""
            )
        )
        owned = "INSERT INTO owners (kind, id, project, tenant) VALUES ('dataset', 'sha256:1', :project, 'acme')"
        connection.execute(text(owned), [{"project": "shop"}, {"project": "lab"}])
    empty_database.migrate()
    for project, seen in (("shop", True), ("lab", True), ("other", False)):
        with empty_database.acting(Scope("acme", project)):
            found = DatasetStore(empty_database).find("sha256:1")
        assert (found is not None and (found.name, found.created_at) == ("flowers", 7)) is seen
