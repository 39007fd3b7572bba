from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from mofang.base.audit.chain import GENESIS, seal
from mofang.base.audit.store import AuditStore, audit_head, audit_records
from mofang.base.domain.errors import AuditBroken
from mofang.base.domain.registry import canonical_json
from mofang.base.storage.database import Database


@pytest.fixture
def audit(database: Database) -> AuditStore:
    store = AuditStore(database)
    for number in range(1, 6):
        store.append("key-1", "endpoint.deploy", f"digits-{number}", {"version": number, "note": "größer"})
    return store


def _change(database: Database, where: int, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(update(audit_records).where(audit_records.c.seq == where).values(**values))


def _remove(database: Database, seq: int) -> None:
    with database.write() as connection:
        connection.execute(delete(audit_records).where(audit_records.c.seq == seq))


def test_an_empty_log_is_whole(database: Database) -> None:
    report = AuditStore(database).verify()
    assert (report.records, report.head) == (0, GENESIS)


def test_a_log_that_nobody_touched_is_whole(audit: AuditStore) -> None:
    report = audit.verify()
    records = audit.list()
    assert report.records == 5
    assert report.head == records[-1].hash
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert [record.previous for record in records] == [GENESIS, *(record.hash for record in records[:-1])]
    assert records[2].details == {"version": 3, "note": "größer"}


def test_the_log_is_paged(audit: AuditStore) -> None:
    assert [record.seq for record in audit.list(after=1, limit=3)] == [2, 3, 4]


def test_a_record_is_committed_with_what_it_tells_of(audit: AuditStore, database: Database) -> None:
    def fail() -> None:
        with database.write():
            audit.append("key-1", "key.create", "k", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert audit.verify().records == 5
    assert audit.append("key-1", "key.create", "k").seq == 6
    assert audit.verify().records == 6


@pytest.mark.parametrize(
    "values",
    [
        {"actor": "key-2"},
        {"action": "endpoint.delete"},
        {"target": "digits-9"},
        {"at": 1},
        {"details": '{"version":4}'},
        {"details": "{"},
        {"hash": "0" * 64},
        {"previous": "0" * 64},
    ],
)
@pytest.mark.parametrize("seq", [2, 5])
def test_a_changed_record_is_named(audit: AuditStore, database: Database, values: dict[str, Any], seq: int) -> None:
    _change(database, seq, **values)
    with pytest.raises(AuditBroken, match=rf"audit record {seq} (was changed|does not follow)"):
        audit.verify()


@pytest.mark.parametrize("seq", [1, 3, 5])
def test_a_removed_record_is_named(audit: AuditStore, database: Database, seq: int) -> None:
    _remove(database, seq)
    with pytest.raises(AuditBroken, match=f"audit record {seq} is missing"):
        audit.verify()


def test_a_cut_tail_is_named(audit: AuditStore, database: Database) -> None:
    for seq in (4, 5):
        _remove(database, seq)
    with pytest.raises(AuditBroken, match=r"audit record 4 is missing: the log was cut, it had 5"):
        audit.verify()


def test_records_that_changed_places_are_named(audit: AuditStore, database: Database) -> None:
    for seq, new in ((2, 99), (3, 2), (99, 3)):
        _change(database, seq, seq=new)
    with pytest.raises(AuditBroken, match="audit record 2 does not follow"):
        audit.verify()


def test_an_inserted_record_is_named(audit: AuditStore, database: Database) -> None:
    last = audit.list()[-1]
    record = seal(6, last.at, "key-2", "key.create", "mine", {}, last.hash)
    values = {name: getattr(record, name) for name in ("seq", "at", "actor", "action", "target", "previous", "hash")}
    with database.write() as connection:
        connection.execute(insert(audit_records).values(**values, details=canonical_json({}).decode()))
    with pytest.raises(AuditBroken, match="audit record 6 was inserted"):
        audit.verify()


def test_a_record_put_before_the_first_is_named(audit: AuditStore, database: Database) -> None:
    with database.write() as connection:
        row = dict(connection.execute(select(audit_records).where(audit_records.c.seq == 1)).one()._mapping)
        connection.execute(insert(audit_records).values(**row | {"seq": 0}))
    with pytest.raises(AuditBroken, match="audit record 1 is missing"):
        audit.verify()


def test_a_tail_that_was_written_anew_contradicts_the_head(audit: AuditStore, database: Database) -> None:
    fourth, fifth = audit.list(after=3)
    forged = seal(5, fifth.at, "key-2", fifth.action, fifth.target, fifth.details, fourth.hash)
    _change(database, 5, actor=forged.actor, hash=forged.hash)
    with pytest.raises(AuditBroken, match="audit record 5 was changed"):
        audit.verify()


def test_a_head_that_was_removed_is_found(audit: AuditStore, database: Database) -> None:
    with database.write() as connection:
        connection.execute(delete(audit_head))
    with pytest.raises(AuditBroken, match="audit record 1 was inserted"):
        audit.verify()
    with pytest.raises(AuditBroken):
        audit.append("key-1", "key.create", "k")


def test_a_long_log_is_verified_in_pages(database: Database) -> None:
    store = AuditStore(database)
    with database.write():
        for _ in range(1100):
            store.append("key-1", "key.create", "k")
    assert store.verify().records == 1100
    _change(database, 1050, actor="key-2")
    with pytest.raises(AuditBroken, match="audit record 1050"):
        store.verify()
