from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofang.base.domain.errors import JournalDamaged
from mofang.base.storage.journal import JournalWriter, is_live, read_records, segments


def _write(folder: Path, *flushes: list[bytes], writer: str = "gateway-1") -> Path:
    journal = JournalWriter(folder, writer)
    for payloads in flushes:
        for payload in payloads:
            journal.append(payload)
        journal.flush()
    journal.close()
    return segments(folder)[-1]


def _payloads(path: Path, offset: int = 0) -> list[bytes]:
    return [payload for payload, _ in read_records(path, offset)]


@given(st.lists(st.lists(st.binary(max_size=60), max_size=5), min_size=1, max_size=5))
def test_what_is_flushed_is_read(tmp_path_factory: pytest.TempPathFactory, flushes: list[list[bytes]]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    _write(folder, [b"first"], *flushes)
    (path,) = segments(folder)
    payloads = [b"first", *(payload for flush in flushes for payload in flush)]
    records = list(read_records(path))
    assert [payload for payload, _ in records] == payloads
    for count, (_, end) in enumerate(records, start=1):
        assert _payloads(path, end) == payloads[count:]
    assert records[-1][1] == path.stat().st_size


def test_a_tail_torn_at_any_byte_ends_the_segment(tmp_path: Path) -> None:
    nested = _write(tmp_path / "nested", [b"a record inside a record"]).read_bytes()
    flushes = [[b"one", b"two"], [b"three"], [nested, b"", b"four"]]
    whole = _write(tmp_path / "whole", *flushes)
    ends = [whole.stat().st_size - len(_write(tmp_path / str(n), *flushes[n:]).read_bytes()) for n in range(3)]
    content = whole.read_bytes()
    torn = tmp_path / "torn.journal"
    for size in range(len(content)):
        torn.write_bytes(content[:size])
        complete = sum(size >= end for end in [*ends[1:], len(content)])
        assert _payloads(torn) == [payload for flush in flushes[:complete] for payload in flush]
        torn.write_bytes(content[:size] + bytes(100))  # a file system may have left zeros
        assert _payloads(torn)[: 2 * min(complete, 1)] == flushes[0][: 2 * min(complete, 1)]


def test_a_bad_record_before_good_ones_is_damage(tmp_path: Path) -> None:
    path = _write(tmp_path, [b"one"], [b"two"], [b"three"])
    content = path.read_bytes()
    (_, first), (_, second), _ = read_records(path)
    for position in range(second):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x40]) + content[position + 1 :])
        with pytest.raises(JournalDamaged, match=f"byte {0 if position < first else first},"):
            _payloads(path)


def test_the_last_record_damaged_is_a_torn_tail(tmp_path: Path) -> None:
    path = _write(tmp_path, [b"one"], [b"two"])
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert _payloads(path) == [b"one"]


def test_nothing_is_there_before_the_flush_and_nothing_without_records(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "gateway-1")
    journal.flush()
    journal.append(b"one")
    assert segments(tmp_path) == []
    journal.close()
    assert [_payloads(path) for path in segments(tmp_path)] == [[b"one"]]


def test_segments_roll_and_sort_by_time(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path, "gateway-1", segment_bytes=100)
    for number in range(12):
        journal.append(b"%02d" % number * 20)
        journal.flush()
    journal.close()
    paths = segments(tmp_path)
    assert len(paths) == 6
    assert [payload for path in paths for payload in _payloads(path)] == [b"%02d" % n * 20 for n in range(12)]


def test_writers_have_segments_of_their_own(tmp_path: Path) -> None:
    first, second = JournalWriter(tmp_path, "gateway-1"), JournalWriter(tmp_path, "gateway-2")
    for journal, payload in ((first, b"a"), (second, b"b"), (first, b"c")):
        journal.append(payload)
        journal.flush()
    assert [_payloads(path) for path in segments(tmp_path)] == [[b"a", b"c"], [b"b"]]
    assert [is_live(path) for path in segments(tmp_path)] == [True, True]
    first.close()
    assert [is_live(path) for path in segments(tmp_path)] == [False, True]
    second.close()


def test_every_start_begins_a_new_segment(tmp_path: Path) -> None:
    _write(tmp_path, [b"one"])
    _write(tmp_path, [b"two"])
    assert [_payloads(path) for path in segments(tmp_path)] == [[b"one"], [b"two"]]


_WRITER = """
import sys
from pathlib import Path
from mofang.base.storage.journal import JournalWriter

journal = JournalWriter(Path(sys.argv[1]), "gateway-1")
journal.append(b"answered")
journal.flush()
journal.append(b"never answered")
print("flushed", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_what_it_flushed_and_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "flushed\n"
        (path,) = segments(tmp_path)
        assert is_live(path)
        child.kill()
        child.wait()
    assert not is_live(path)
    assert _payloads(path) == [b"answered"]


_FULL_DISK = """
import resource, sys
from pathlib import Path
from mofang.base.domain.errors import StorageFull
from mofang.base.storage.journal import JournalWriter, read_records, segments

folder = Path(sys.argv[1])
journal = JournalWriter(folder, "gateway-1")
journal.append(b"before")
journal.flush()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
for number in range(3):
    for _ in range(20):
        journal.append(b"too much" * 10)
    try:
        journal.flush()
    except StorageFull as error:
        print(error)
    print([payload for path in segments(folder) for payload, _ in read_records(path)])
    print(sum(path.stat().st_size for path in segments(folder)))
journal.append(b"small")
journal.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
journal.append(b"after")
journal.close()
"""


def test_a_full_disk_takes_the_whole_flush_back(run_child: Callable[..., list[str]], tmp_path: Path) -> None:
    lines = run_child(_FULL_DISK, tmp_path)
    assert lines == ["the journal could not be written: the file size limit is reached", "[b'before']", "26"] * 3
    assert [_payloads(path) for path in segments(tmp_path)] == [[b"before", b"small", b"after"]]


def test_a_reader_never_sees_a_part_of_a_flush(tmp_path: Path) -> None:
    path = _write(tmp_path, [b"one"], [b"two", b"three"])
    (_, first), (_, second), _ = read_records(path)
    content = path.read_bytes()
    path.write_bytes(content[:second])  # as if the disk had been full in the middle of the second flush
    assert _payloads(path) == [b"one"]
    assert _payloads(path, first) == []
