from __future__ import annotations

import subprocess
import sys

import pytest
from alembic import command
from sqlalchemy import inspect, text

from ledgers import NOON
from mofang.base.audit.store import AuditStore
from mofang.base.domain.access import Scope
from mofang.base.domain.errors import LedgerBroken
from mofang.base.storage.database import Database
from mofang.base.storage.migrations import config
from mofang.base.storage.revise import all_tables, differences
from mofang.make.prepare.store import DatasetStore
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.witness import ACTOR, FOLD, UsageReport, Witness, digest_of


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


def test_events_of_before_are_told_as_they_were_and_vouched_for(empty_database: Database) -> None:
    meters = {"rows": 3, "requests": 1, "compute_us": 100}
    events = [
        (3 * answer + number, 1 + answer % 2, f"req_{answer}", 1, meter, NOON + answer, quantity + answer)
        for answer in range(4)
        for number, (meter, quantity) in enumerate(meters.items(), 1)
    ]
    events.append((13, 1, "req_0", 1, "images", NOON, 1))  # a meter that came later
    named = [
        {"number": number, "word": word, "digest": "sha256:" + word, "at": NOON}
        for number, word in ((1, "a"), (2, "b"))
    ]
    with empty_database.write() as connection:
        command.upgrade(config(connection), "0019")
        connection.execute(
            text(
                "INSERT INTO usage_series (id, key_id, tenant, project, endpoint, revision, version, digest, outcome,"
                " source, last_at) VALUES (:number, :word, 'acme', 'p', 'digits', 1, 1, :digest, 'ok', 'engine', :at)"
            ),
            named,
        )
        columns = ("seq", "series_id", "request_id", "attempt", "meter", "at", "quantity")
        connection.execute(
            text(f"INSERT INTO usage_events ({', '.join(columns)}) VALUES (:{', :'.join(columns)})"),
            [dict(zip(columns, event, strict=True)) for event in events],
        )
        command.upgrade(config(connection), "head")
    audit, usage = AuditStore(empty_database), UsageStore(empty_database)
    for first, last in ((1, 5), (6, 13)):  # as they were told of when each event was a row
        told = {"events": [first, last, digest_of(events[first - 1 : last])]}
        audit.append(ACTOR, FOLD, "segment", before={"last_event": first - 1}, after={"last_event": last}, details=told)
    assert usage.count() == 13
    assert [(e.request_id, e.meter, e.quantity) for e in usage.events().items] == [(e[2], e[4], e[6]) for e in events]
    assert Witness(audit).verify(usage) == UsageReport(13, 2)
    with empty_database.write() as connection:
        connection.execute(text("UPDATE usage_records SET quantities = '[1,1,1]' WHERE seq = 9"))
    with pytest.raises(LedgerBroken, match="events 6 to 13"):
        Witness(audit).verify(usage)
    with empty_database.write() as connection:
        connection.execute(text("UPDATE usage_records SET quantities = '[5,3,102]' WHERE seq = 9"))
        command.downgrade(config(connection), "0019")
        assert [tuple(row) for row in connection.execute(text("SELECT * FROM usage_events ORDER BY seq"))] == events
