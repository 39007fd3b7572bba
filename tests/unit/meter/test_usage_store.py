from __future__ import annotations

from collections.abc import Collection

import pytest

from ledgers import HOUR, NOON, all_events, usage
from mofang.base.domain.errors import InvalidPeriod, InvalidRequest
from mofang.base.storage.database import Database
from mofang.sell.meter.store import GROUPS, UsageStore
from mofang.sell.meter.windows import MAX_AT, UsageRow

DAY = 24 * HOUR
NOVEMBER = NOON - 12 * HOUR


def test_events_are_paged_in_the_order_they_were_folded(store: UsageStore) -> None:
    store.fold("a", 0, 1, [usage(2), usage(1)])
    store.fold("b", 0, 1, [usage(2), usage(3)])
    first = store.events(limit=4)
    assert [event.event_id for event in first.items] == [
        "req_00000002:1:requests",
        "req_00000002:1:rows",
        "req_00000002:1:compute_us",
        "req_00000001:1:requests",
    ]
    assert first.next is not None
    second = store.events(after=first.next, limit=5)
    assert second.next is None
    assert first.items + second.items == all_events(store)
    assert store.events(after=10**9).items == []


def test_events_are_filtered(store: UsageStore) -> None:
    store.fold("a", 0, 1, [usage(1), usage(2, project="speech", endpoint="words"), usage(3, digest="sha256:cd")])

    def requests(**filters: str) -> list[str]:
        return sorted({event.request_id for event in store.events(filters).items})

    assert requests(project="speech") == requests(endpoint="words") == ["req_00000002"]
    assert requests(tenant="acme", digest="sha256:cd") == ["req_00000003"]
    assert requests(request_id="req_00000001") == ["req_00000001"]
    assert requests(request_id="req_") == []
    assert requests(tenant="nobody") == []
    with pytest.raises(InvalidRequest, match="colour"):
        store.events({"colour": "red"})


def test_every_column_can_be_summed_by_and_the_meter_always_is(store: UsageStore) -> None:
    store.fold("a", 0, 1, [usage(1), usage(2)])
    for name in GROUPS:
        totals = store.totals((name,))
        assert {total.group["meter"] for total in totals} == {"requests", "rows", "compute_us"}
        assert {total.events for total in totals} == {2}
    (total,) = store.totals(("project",), filters={"meter": "rows"})
    assert total.to_dict() == {"project": "vision", "meter": "rows", "quantity": 5, "events": 2}
    with pytest.raises(InvalidRequest, match="colour"):
        store.totals(("colour",))
    with pytest.raises(InvalidRequest, match="quantity"):
        store.totals((), filters={"quantity": "1"})


def test_hours_days_and_months_are_those_of_utc(store: UsageStore) -> None:
    one = {"requests": 1}
    moments = [NOVEMBER - 1, NOVEMBER, NOVEMBER + HOUR - 1, NOVEMBER + HOUR, NOVEMBER + DAY, NOVEMBER + 30 * DAY]
    store.fold("a", 0, 1, [usage(n, at=at, quantities=one) for n, at in enumerate(moments)])

    def counts(name: str) -> list[tuple[int, int]]:
        return [((total.group[name] - NOVEMBER) // HOUR, total.quantity) for total in store.totals((name,))]

    assert counts("hour") == [(-1, 1), (0, 2), (1, 1), (24, 1), (720, 1)]
    assert counts("day") == [(-24, 1), (0, 3), (24, 1), (720, 1)]
    assert counts("month") == [(-744, 1), (0, 4), (720, 1)]
    (within,) = store.totals(("endpoint",), NOVEMBER, NOVEMBER + 30 * DAY)
    assert within.quantity == 4
    (since,) = store.totals(("endpoint",), start=NOVEMBER + HOUR)
    assert since.quantity == 3
    (before,) = store.totals(("endpoint",), end=NOVEMBER)
    assert before.quantity == 1


@pytest.mark.parametrize(
    ("start", "end"), [(NOON, NOON), (NOON, NOON - HOUR), (NOON + 1, NOON + HOUR), (NOON, NOON + 1), (-HOUR, NOON)]
)
def test_a_period_that_is_no_period_is_refused(store: UsageStore, start: int, end: int) -> None:
    with pytest.raises(InvalidPeriod):
        store.totals(("endpoint",), start, end)


def test_errors_are_shown_and_not_billed(store: UsageStore) -> None:
    rows = {"rows": 2}
    changes = ({}, {"key_id": "key2"}, {"outcome": "error"}, {"tenant": "other"}, {"at": NOON + HOUR})
    store.fold("a", 0, 1, [usage(number, quantities=rows, **change) for number, change in enumerate(changes)])
    digest = usage().digest
    assert store.billable("acme", NOON, NOON + DAY) == [
        UsageRow("digits", 2, digest, "rows", NOON, 4),
        UsageRow("digits", 2, digest, "rows", NOON + HOUR, 2),
    ]
    outcomes = {
        total.group["outcome"]: total.quantity for total in store.totals(("outcome",), filters={"tenant": "acme"})
    }
    assert outcomes == {"ok": 6, "error": 2}


def test_usage_stays_exact_where_floats_would_not(store: UsageStore) -> None:
    most = (1 << 48) - 1
    store.fold("a", 0, 1, [usage(n, quantities={"input_bytes": most}) for n in range(300)])
    (total,) = store.totals(("endpoint",))
    assert total.quantity == 300 * most


def test_the_first_and_the_last_moment_of_the_calendar_can_be_settled(store: UsageStore) -> None:
    store.fold("a", 0, 1, [usage(1, at=0), usage(2, at=MAX_AT - 1)])
    assert store.count() == 6
    first, *_ = store.totals(("month",), filters={"meter": "rows"})
    assert first.group["month"] == 0


def test_the_last_use_of_a_key_is_known(store: UsageStore) -> None:
    assert store.last_used() == {}
    store.fold("a", 0, 1, [usage(1, key_id="ada", at=NOON + 7), usage(2, key_id="bob", at=NOON)])
    store.fold("b", 0, 1, [usage(3, key_id="ada", at=NOON + 3), usage(4, key_id="ada", endpoint="words", at=NOON + 9)])
    assert store.last_used() == {"ada": NOON + 9, "bob": NOON}
    store.fold("c", 0, 1, [usage(2, key_id="bob", at=NOON)])
    assert store.last_used()["bob"] == NOON


def test_usage_names_the_variant_that_answered(database: Database) -> None:
    known = {("sha256:small", 3): "int8-dynamic"}
    asked: list[tuple[str, int]] = []

    def variants(versions: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
        asked.extend(versions)
        return {version: known[version] for version in versions if version in known}

    store = UsageStore(database, variants=variants)
    small = {"digest": "sha256:small", "version": 3}
    store.fold("a", 0, 1, [usage(1), usage(2, **small), usage(3, **small)])
    store.fold("a", 1, 2, [usage(4), usage(5, **small)])
    assert sorted(asked) == [("sha256:" + "ab" * 32, 2), ("sha256:small", 3)]  # once, when it first answered

    def requests() -> dict[str, int]:
        return {t.group["variant"]: t.quantity for t in store.totals(("variant",), filters={"meter": "requests"})}

    assert requests() == {"": 2, "int8-dynamic": 3}
    assert {event.variant for event in store.events({"digest": "sha256:small"}).items} == {"int8-dynamic"}
    assert len(store.events({"variant": "int8-dynamic", "request_id": "req_00000002"}).items) == 3
    known["sha256:" + "ab" * 32, 2] = "original"  # found out later
    store.name_variants()
    assert requests() == {"original": 2, "int8-dynamic": 3}
