"""Durability `power` holds when the power is cut: on a disk of its own, whose file system is shut down under load.

A disk in a file, with ext4, is mounted; a process puts usage on record there for many clients and says what it told
them; then ext4 is told to go down without writing anything more, as a power cut would have it. Mounted again, every
record that was acknowledged must be in the journal. Needs root, loop devices and ext4.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mofang.base.storage.journal import read_records, segments
from mofang.sell.meter.codec import decode

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2
ROUNDS, TOLD = 10, 2_000
WRITER = """
import asyncio, sys
from pathlib import Path
from ledgers import usage
from mofang.base.storage.journal import JournalWriter, sync_all
from mofang.sell.meter.durable import DurableRecorder
from mofang.sell.meter.recorder import Recorder

async def main(folder, durability):
    journal = JournalWriter(folder, "gateway-0", syncs=durability == "power")
    recorder = DurableRecorder(journal, sync_all, print) if durability == "power" else Recorder(journal)
    number = 0
    def ask():
        nonlocal number
        number += 1
        mine = usage(number)
        def written(error):
            if error is None:
                print(mine.request_id, flush=True)
                asyncio.get_running_loop().call_soon(ask)
        recorder.record(mine, written)
    for _ in range(32):
        ask()
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@contextmanager
def disk(image: Path, folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def cut_power(folder: Path) -> None:
    """Have the file system of ``folder`` forget all that is not on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def told_and_kept(tmp_path: Path, durability: str) -> tuple[set[str], set[str]]:
    """Cut the power while clients are answered; return what they were told, and what the journal has afterwards."""
    image, folder = tmp_path / "disk", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with disk(image, folder):
        command = [sys.executable, "-c", WRITER, str(folder / "journal"), durability]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environ) as writer:
            assert writer.stdout is not None
            told = {writer.stdout.readline().strip() for _ in range(TOLD)}
            cut_power(folder)
            writer.kill()
            told |= {line.strip() for line in writer.stdout if len(line.strip()) == len("req_00000000")}
    with disk(image, folder):
        payloads = [payload for path in segments(folder / "journal") for payload, _ in read_records(path)]
    return told, {usage.request_id for payload in payloads for usage in decode(payload)}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path, number: int) -> None:
    told, kept = told_and_kept(tmp_path, "power")
    assert len(told) >= TOLD
    assert told <= kept, f"{len(told - kept)} of {len(told)} were lost"


def test_durability_process_does_not_survive_one(tmp_path: Path) -> None:
    told, kept = told_and_kept(tmp_path, "process")
    assert told - kept, "this test cannot tell whether anything is lost"
