from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledgers import assert_ledger_is, open_ledger, usage, write_journal
from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.journal import JournalWriter, segments
from mofang.sell.meter.codec import encode
from mofang.sell.meter.settler import FoldReport, Settler
from mofang.sell.meter.store import UsageStore


def test_a_fold_brings_every_record_into_the_ledger_and_removes_the_segment(store: UsageStore, tmp_path: Path) -> None:
    records = [usage(number) for number in range(100)]
    write_journal(tmp_path / "journal", records)
    report = Settler(tmp_path / "journal", store, chunk_records=30).fold()
    assert report == FoldReport(records=100, events=300, segments_removed=1)
    assert segments(tmp_path / "journal") == []
    assert_ledger_is(store, records)


def test_an_empty_or_absent_folder_is_no_fault(store: UsageStore, tmp_path: Path) -> None:
    assert Settler(tmp_path / "none", store).fold() == FoldReport()


def test_a_live_segment_is_folded_as_it_grows_and_kept(store: UsageStore, tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "gateway-0")
    settler = Settler(tmp_path, store)
    for number in range(3):
        journal.append(encode(usage(number)))
        journal.flush()
        assert settler.fold() == FoldReport(records=1, events=3)
        assert settler.fold() == FoldReport()
    journal.close()
    assert settler.fold() == FoldReport(segments_removed=1)
    assert_ledger_is(store, [usage(number) for number in range(3)])


def test_a_torn_tail_ends_a_finished_segment(store: UsageStore, tmp_path: Path) -> None:
    write_journal(tmp_path, [usage(1), usage(2)], flush_every=1)
    (segment,) = segments(tmp_path)
    os.truncate(segment, segment.stat().st_size - 3)
    assert Settler(tmp_path, store).fold() == FoldReport(records=1, events=3, segments_removed=1)
    assert_ledger_is(store, [usage(1)])


@pytest.mark.parametrize("chunk_records", [1, 100])
def test_a_damaged_segment_is_reported_kept_and_stops_no_other(
    store: UsageStore, tmp_path: Path, chunk_records: int
) -> None:
    write_journal(tmp_path, [usage(number) for number in range(3)], writer="a", flush_every=1)
    write_journal(tmp_path, [usage(number) for number in range(3, 6)], writer="b")
    damaged = segments(tmp_path)[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.write_bytes(content)
    settler = Settler(tmp_path, store, chunk_records=chunk_records)
    report = settler.fold()
    assert (report.records, report.segments_removed) == (4, 1)
    assert damaged.name in report.damaged[0]
    assert segments(tmp_path) == [damaged]
    assert settler.fold() == FoldReport(damaged=report.damaged)
    assert_ledger_is(store, [usage(0), usage(3), usage(4), usage(5)])


def test_a_record_of_a_later_release_is_kept_for_it(store: UsageStore, tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "gateway-0")
    for payload in (encode(usage(1)), b"\x09later", encode(usage(3))):
        journal.append(payload)
    journal.close()
    report = Settler(tmp_path, store).fold()
    assert (report.records, report.segments_removed) == (1, 0)
    assert "format 09" in report.damaged[0]
    assert len(segments(tmp_path)) == 1


def test_a_crash_between_commit_and_removal_folds_nothing_twice(store: UsageStore, tmp_path: Path) -> None:
    records = [usage(number) for number in range(20)]
    write_journal(tmp_path / "journal", records)
    (segment,) = segments(tmp_path / "journal")
    content = segment.read_bytes()
    settler = Settler(tmp_path / "journal", store)
    settler.fold()
    segment.write_bytes(content)  # as if it had not been removed
    assert settler.fold() == FoldReport(segments_removed=1)
    segment.with_name("copy-0000000000000001-000001.journal").write_bytes(content)  # and under another name
    assert settler.fold() == FoldReport(records=20, events=0, segments_removed=1)
    assert_ledger_is(store, records)


def test_a_fold_from_an_offset_that_has_moved_changes_nothing(store: UsageStore) -> None:
    assert store.fold("s", 0, 10, [usage(1)]) == 3
    assert store.fold("s", 0, 10, [usage(2)]) is None
    assert store.fold("s", 5, 20, [usage(2)]) is None
    assert store.folded("s") == 10
    assert_ledger_is(store, [usage(1)])


_records = st.lists(
    st.builds(
        usage,
        number=st.integers(1, 25),  # few ids, so that many come twice
        attempt=st.integers(1, 2),
        project=st.sampled_from(["vision", "speech"]),
        outcome=st.sampled_from(["ok", "error"]),
        quantities=st.dictionaries(
            st.sampled_from(["requests", "rows", "compute_us"]), st.integers(0, 2**48 - 1), max_size=3
        ),
    ),
    max_size=30,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=_records, cuts=st.lists(st.integers(0, 30), max_size=3), chunk=st.integers(1, 12))
def test_windows_are_the_sums_of_events_and_events_come_once(
    tmp_path_factory: pytest.TempPathFactory, records: list[UsageRecord], cuts: list[int], chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("fold")
    bounds = sorted({0, *cuts, len(records)})
    for index, (first, last) in enumerate(pairwise(bounds)):
        write_journal(folder, records[first:last], writer=f"gateway-{index}")
    with open_ledger(folder / "ledger.db") as store:
        Settler(folder, store, chunk_records=chunk).fold()
        assert_ledger_is(store, records)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(12)), again=st.lists(st.integers(0, 11), max_size=8))
def test_order_and_repetition_of_folds_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], again: list[int]
) -> None:
    parts = [[usage(number), usage(number + 100)] for number in range(12)]
    with open_ledger(tmp_path_factory.mktemp("fold") / "ledger.db") as store:
        for turn, index in enumerate([*order, *again]):
            store.fold(f"segment-{turn}", 0, 1, parts[index])
        assert_ledger_is(store, [record for part in parts for record in part])


def test_settlers_at_once_give_what_one_gives(store: UsageStore, tmp_path: Path) -> None:
    records = [usage(number) for number in range(600)]
    for index in range(3):
        write_journal(tmp_path / "journal", records[index * 200 : index * 200 + 200], writer=f"gateway-{index}")
    reports: list[FoldReport] = []
    settler = Settler(tmp_path / "journal", store, chunk_records=20)
    threads = [threading.Thread(target=lambda: reports.append(settler.fold())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.records for report in reports) == 600
    assert sum(report.segments_removed for report in reports) == 3
    assert_ledger_is(store, records)


def test_a_settler_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(17)
    records = [usage(number) for number in range(3_000)]
    for index in range(6):
        # Neighbouring segments share some records, as after a copy or a replay.
        part = records[index * 500 : index * 500 + 520]
        write_journal(tmp_path / "journal", part, writer=f"gateway-{index}")
    nursery = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("nursery.py"), tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    killed_at_work = 0
    with open_ledger(tmp_path / "ledger.db") as store, nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(20):
            nursery.stdin.write("next\n")
            pid = int(nursery.stdout.readline())
            select.select([nursery.stdout], [], [], chance.uniform(0, 0.05))  # silent: this is the moment of the kill
            os.kill(pid, signal.SIGKILL)
            assert nursery.stdout.readline() == "dead\n"
            killed_at_work += bool(segments(tmp_path / "journal"))
        nursery.stdin.close()
        assert killed_at_work > 5
        assert store.count() > 0
        assert Settler(tmp_path / "journal", store).fold().damaged == ()
        assert segments(tmp_path / "journal") == []
        assert_ledger_is(store, records)
