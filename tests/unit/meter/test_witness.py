"""The audit log vouches for the ledger: whatever is done to either, comparing them fails."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from ledgers import usage
from mofang.base.audit.store import AuditStore
from mofang.base.domain.errors import LedgerBroken
from mofang.base.storage.database import Database
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.witness import FOLD, SERIES, Witness


@pytest.fixture
def audit(database: Database) -> AuditStore:
    return AuditStore(database)


@pytest.fixture
def ledger(database: Database, audit: AuditStore) -> UsageStore:
    store = UsageStore(database, on_fold=Witness(audit).note)
    for fold in range(3):
        records = [usage(fold * 10 + number, tenant=f"tenant-{number % 2}") for number in range(10)]
        assert store.fold("segment", fold * 10, fold * 10 + 10, records) == 30
    return store


def test_every_fold_is_vouched_for_once_and_every_series_when_it_is_first_seen(
    audit: AuditStore, ledger: UsageStore
) -> None:
    report = Witness(audit).verify(ledger)
    assert (report.events, report.folds) == (90, 3)
    assert [record.details["events"][:2] for record in audit.list(action=FOLD)] == [[1, 30], [31, 60], [61, 90]]
    assert {record.details["tenant"] for record in audit.list(action=SERIES)} == {"tenant-0", "tenant-1"}
    assert len(audit.list(action=SERIES)) == 2
    ledger.fold("other", 0, 5, [usage(1)])  # nothing new: nothing to vouch for
    assert Witness(audit).verify(ledger) == report
    assert audit.verify().records == 5


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        ("UPDATE usage_records SET quantities = replace(quantities, '[1,', '[2,') WHERE seq = 42", "events 31 to 60"),
        ("UPDATE usage_records SET at = at + 1 WHERE seq = 3", "events 1 to 30"),
        ("DELETE FROM usage_records WHERE seq = 90", "events 61 to 90"),
        ("UPDATE usage_records SET series_id = 3 - series_id WHERE seq = 33", "events 31 to 60"),
        ("UPDATE usage_meters SET names = replace(names, 'rows', 'images')", "events 1 to 30"),
        ("UPDATE usage_series SET tenant = 'mallory' WHERE id = 1", "series 1"),
        (
            "INSERT INTO usage_records (seq, series_id, request_id, attempt, at, meters_id, quantities)"
            " VALUES (93, 1, 'forged', 1, 1, 1, '[1,1,1]')",
            "has 93 events, audit records vouch for 90",
        ),
    ],
)
def test_a_ledger_that_was_touched_is_named(
    database: Database, audit: AuditStore, ledger: UsageStore, tampering: str, message: str
) -> None:
    with database.write() as connection:
        connection.execute(text(tampering))
    with pytest.raises(LedgerBroken, match=message):
        Witness(audit).verify(ledger)


def test_a_fold_that_fails_leaves_no_record(database: Database, audit: AuditStore, ledger: UsageStore) -> None:
    def fail() -> None:
        with database.write():
            ledger.fold("segment", 30, 40, [usage(99, tenant="new")])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert Witness(audit).verify(ledger).events == 90
    ledger.fold("segment", 30, 40, [usage(99, tenant="new")])
    assert Witness(audit).verify(ledger).events == 93
