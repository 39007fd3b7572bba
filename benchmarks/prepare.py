"""How fast a large CSV file is prepared, and how much memory that takes.

    python benchmarks/prepare.py                      # a million rows
    python benchmarks/prepare.py --rows 10000000      # the size the documentation names

Prints rows a second, the peak memory of the process, and how it grows from a tenth of the rows to all. Each size
runs in a process of its own. Exits with 1 if the peak is over two GiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Prepare

HEAD = "distance,delay,taxi,speed,carrier,origin,when,fuel,late\n"
BLOCK = 10_000
LIMIT_MIB = 2_048


def write(path: Path, rows: int) -> None:
    """Write a table of numbers, categories and times, with some values missing."""
    draw = random.Random(0)
    with path.open("w") as file:
        file.write(HEAD)
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            if start == 0 or count < BLOCK:
                block = [_row(draw) for _ in range(count)]
            file.writelines(block)


def _row(draw: random.Random) -> str:
    speed = f"{draw.uniform(200, 600):.1f}" if draw.random() < 0.98 else ""
    when = f"2026-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02} {draw.randrange(24):02}:00"
    carrier, origin = draw.choice(["UA", "AA", "B6", "DL"]), draw.choice(["JFK", "LGA", "EWR"])
    numbers = f"{draw.uniform(100, 3000):.1f},{draw.gauss(0, 30):.2f},{draw.randrange(60)},{speed}"
    return f"{numbers},{carrier},{origin},{when},{draw.random():.4f},{draw.randrange(2)}\n"


def once(path: Path, folder: Path) -> None:
    """Prepare ``path`` in this process and print what it took."""
    begun, cpu = time.perf_counter(), time.process_time()
    dataset = prepare(Prepare(source=f"csv:{path}"), DiskBlobs(folder / "blobs"), Silent(), folder)
    rows = sum(split.rows for split in dataset.splits.values()) + sum(dataset.removed.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([rows, time.perf_counter() - begun, time.process_time() - cpu, peak]))


def main() -> int:
    """Measure a tenth of the rows, then all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--once", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        once(*arguments.once)
        return 0
    peaks = []
    for rows in (arguments.rows // 10, arguments.rows):
        with TemporaryDirectory() as folder:
            path = Path(folder) / "flights.csv"
            write(path, rows)
            command = [sys.executable, __file__, "--once", str(path), folder]
            found, wall, cpu, peak = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            size = path.stat().st_size / 1e6
        peaks.append(peak)
        speed = f"{wall:>7.1f} s  {found / cpu:>9,.0f} rows/CPU-s"
        print(f"{found:>12,} rows  {size:>8,.0f} MB  {speed}  {peak:>6,.0f} MiB peak")
    print(f"ten times the rows took {peaks[1] / peaks[0]:.2f} times the memory; the limit is {LIMIT_MIB:,} MiB")
    return int(peaks[1] > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
