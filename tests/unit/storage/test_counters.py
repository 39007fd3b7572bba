"""Counters outlive their writers, whatever dies when, and are added up exactly once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import StorageUnavailable
from mofang.base.domain.usage import COUNTED
from mofang.base.storage.counters import CounterArchive, Counters

KEYS = st.sampled_from(["acme", "zoo", "t" * 63])
ADDED = st.tuples(KEYS, st.dictionaries(st.sampled_from(COUNTED), st.integers(1, 1 << 40), max_size=3))
WRITES = """
import os, signal, sys
from pathlib import Path
from mofang.base.storage.counters import Counters
counters = Counters(Path(sys.argv[1]), "digits", "digits.1.0")
for number in range(100):
    counters.add("acme" if number % 2 else "zoo", {"requests": 1, "rows": number})
os.kill(os.getpid(), signal.SIGKILL)
"""


@given(st.lists(st.lists(ADDED, max_size=12), min_size=1, max_size=4), st.data())
def test_totals_are_the_sum_whenever_files_are_folded(
    tmp_path_factory: pytest.TempPathFactory, writers: list[list[tuple[str, dict[str, int]]]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("counters")
    archive = CounterArchive(folder)
    expected: Counter[tuple[str, str, str]] = Counter()
    for number, added in enumerate(writers):
        subject = f"endpoint-{number % 2}"
        counters = Counters(folder, subject, f"{subject}.1.{number}")
        for key, quantities in added:
            counters.add(key, quantities)
            expected.update({(subject, key, meter): quantity for meter, quantity in quantities.items()})
        if data.draw(st.booleans()):
            archive.fold()  # this one lives and stays as it is
        counters.close()
        if data.draw(st.booleans()):
            archive.fold()
        assert _flat(archive) == expected
    archive.fold()
    assert _flat(CounterArchive(folder)) == expected
    assert not [*folder.glob("*.count")]


def test_what_was_counted_survives_a_kill(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITES, str(tmp_path)], check=False)
    archive = CounterArchive(tmp_path)
    expected = {"acme": {"requests": 50, "rows": 2500}, "zoo": {"requests": 50, "rows": 2450}}
    assert archive.read() == {"digits": expected}
    assert archive.fold() == 1
    assert archive.read() == {"digits": expected}


def test_a_fold_that_dies_before_it_removes_a_file_does_not_count_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        counters = Counters(tmp_path, "digits", f"digits.1.{number}")
        counters.add("acme", {"requests": 3})
        counters.close()
    unlink = Path.unlink

    def die(path: Path, *_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", lambda path, **more: die(path) if path.suffix == ".count" else unlink(path))
    with pytest.raises(KeyboardInterrupt):
        CounterArchive(tmp_path).fold()
    monkeypatch.undo()
    for _ in range(2):
        archive = CounterArchive(tmp_path)
        assert archive.read() == {"digits": {"acme": {"requests": 6}}}
        archive.fold()
    assert not [*tmp_path.glob("*.count")]


def test_a_disk_without_room_is_made_good_later(tmp_path: Path) -> None:
    folder = tmp_path / "counters"
    folder.write_text("in the way: no folder can be made here")
    counters = Counters(folder, "digits", "digits.1.0")
    counters.add("acme", {"requests": 1})
    counters.add("zoo", {"requests": 1})
    folder.unlink()
    counters.add("acme", {"requests": 1, "input_bytes": 7})  # bytes are no meter of an engine
    assert CounterArchive(folder).read() == {"digits": {"acme": {"requests": 2}, "zoo": {"requests": 1}}}
    counters.close()


def test_counting_begins_at_a_balance(tmp_path: Path) -> None:
    archive = CounterArchive(tmp_path / "counters")
    assert archive.since is None
    archive.open(7, {"digits": {"acme": {"requests": 5}}})
    counters = Counters(tmp_path / "counters", "digits", "digits.1.0")
    counters.add("acme", {"requests": 1})
    counters.close()
    archive.fold()
    assert (archive.since, archive.read()) == (7, {"digits": {"acme": {"requests": 6}}})


def test_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / "digits.total").write_bytes(b"{")
    with pytest.raises(StorageUnavailable, match=r"'digits\.total' cannot be read"):
        CounterArchive(tmp_path).read()


def _flat(archive: CounterArchive) -> dict[tuple[str, str, str], int]:
    return {
        (subject, key, meter): quantity
        for subject, keys in archive.read().items()
        for key, meters in keys.items()
        for meter, quantity in meters.items()
    }
