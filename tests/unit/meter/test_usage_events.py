"""Events one by one: an answer is one row of the ledger, and is told, paged, traced and added up by its meters."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from ledgers import HOUR, NOON, all_events, assert_ledger_is, open_ledger, usage
from mofang.base.domain.errors import LedgerBroken
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.database import Database
from mofang.sell.meter.store import UsageStore
from mofang.sell.meter.windows import UsageRow

MEMBER = ("digits", 2, "sha256:" + "ab" * 32)


def test_an_answer_is_one_row(store: UsageStore, database: Database) -> None:
    store.fold("a", 0, 1, [usage(number) for number in range(50)])
    with database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM usage_records")) == 50
        assert connection.execute(text("SELECT names FROM usage_meters")).all() == [
            ('["requests","rows","compute_us"]',)
        ]
    assert store.count() == 150


def test_meters_that_come_later_are_added_to_an_answer_and_those_that_came_are_not(store: UsageStore) -> None:
    first = usage(1, quantities={"rows": 3, "requests": 1})
    again = usage(1, quantities={"requests": 7, "images": 2, "rows": 9})
    assert [store.fold("a", at, at + 1, [record]) for at, record in enumerate((first, again, again))] == [2, 1, 0]
    assert store.fold("b", 0, 1, [again, usage(1, quantities={"input_bytes": 5}), again]) == 1
    assert [(event.meter, event.quantity) for event in all_events(store)] == [
        ("rows", 3), ("requests", 1), ("images", 2), ("input_bytes", 5),
    ]  # fmt: skip
    assert_ledger_is(store, [first, again, usage(1, quantities={"input_bytes": 5})])


_answers = st.lists(
    st.builds(
        usage,
        number=st.integers(1, 30),
        at=st.sampled_from([NOON, NOON + 5, NOON + HOUR]),
        outcome=st.sampled_from(["ok", "ok", "error"]),
        tenant=st.sampled_from(["acme", "acme", "zoo"]),
        quantities=st.dictionaries(st.sampled_from(["requests", "rows", "images"]), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=_answers, limit=st.integers(1, 7), after=st.integers(0, 40), last=st.integers(0, 60) | st.none())
def test_pages_of_what_a_line_comes_from_hold_all_of_it_once(
    tmp_path_factory: pytest.TempPathFactory, answers: list[UsageRecord], limit: int, after: int, last: int | None
) -> None:
    with open_ledger(tmp_path_factory.mktemp("trace") / "ledger.db") as store:
        for at in range(0, len(answers), 6):
            store.fold("a", at, at + 6, answers[at : at + 6])
        meters = ("requests", "images")
        wanted = [
            event
            for number, event in enumerate(all_events(store), 1)
            if after < number <= (last if last is not None else number)
            and (event.tenant, event.outcome) == ("acme", "ok") and event.meter in meters and event.at < NOON + HOUR
        ]  # fmt: skip
        found, cursor = [], after
        while True:
            page = store.trace(
                "acme", {m: {MEMBER} for m in meters}, NOON, NOON + HOUR, after=cursor, last=last, limit=limit
            )
            assert len(page.items) <= limit
            found += page.items
            if page.next is None:
                break
            cursor = page.next
        assert found == wanted
        assert store.recount("acme", NOON, NOON + 2 * HOUR) == store.billable("acme", NOON, NOON + 2 * HOUR)


def test_usage_is_added_up_by_hour_from_events(store: UsageStore) -> None:
    ats = (NOON, NOON + 1, NOON + HOUR)
    store.fold("a", 0, 1, [usage(n, at=at, quantities={"rows": n + 1}) for n, at in enumerate(ats)])
    expected = [UsageRow(*MEMBER, "rows", NOON, 3), UsageRow(*MEMBER, "rows", NOON + HOUR, 3)]
    assert store.recount("acme", NOON, NOON + 2 * HOUR) == expected


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE usage_records SET quantities = '[1,2' WHERE seq = 6",
        "UPDATE usage_records SET quantities = '[1,2]' WHERE seq = 6",
        "UPDATE usage_records SET quantities = '[1,2,\"3\"]' WHERE seq = 6",
        "UPDATE usage_meters SET names = 'rows'",
    ],
)
def test_a_row_that_no_fold_wrote_is_named(store: UsageStore, database: Database, damage: str) -> None:
    store.fold("a", 0, 1, [usage(1), usage(2)])
    with database.write() as connection:
        connection.execute(text(damage))
    for ask in (store.events, lambda: store.recount("acme", NOON, NOON + HOUR)):
        with pytest.raises(LedgerBroken):
            ask()
