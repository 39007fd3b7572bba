"""What durability costs: answers a second by clients that ask again as soon as they are told, at the recorder.

    python benchmarks/durability.py [--clients N ...] [--seconds S] [--rounds N] [--folder DIR]

For each number of clients two take turns: ``process`` (told when the kernel has the record) and ``power`` (told after
the sync that covers it). The physical limit of the latter is clients / the time of a sync, as measured in the same run,
since disks differ from second to second. Medians are printed. A request costs a client what encoding its record does,
so this is the recorder's own part; the folder should be on the disk that is meant, not in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import uvloop
from metering import make_records

from mofang.base.domain.usage import UsageRecord
from mofang.base.storage.journal import JournalWriter, sync_all
from mofang.sell.meter.durable import DurableRecorder
from mofang.sell.meter.recorder import Recorder


class Clients:
    """Record, and record again as soon as they are told."""

    def __init__(self, recorder: Recorder, records: list[UsageRecord], clients: int) -> None:
        self.told = 0
        self._recorder = recorder
        self._endless = itertools.cycle(records)
        self._running = clients
        self._stopping = False
        self._gone = asyncio.Event()
        for _ in range(clients):
            self._ask()

    async def stop(self) -> None:
        self._stopping = True
        await self._gone.wait()

    def _ask(self) -> None:
        self._recorder.record(next(self._endless), self._written)

    def _written(self, error: Exception | None) -> None:
        assert error is None, error
        self.told += 1
        if not self._stopping:
            asyncio.get_running_loop().call_soon(self._ask)
            return
        self._running -= 1
        if not self._running:
            self._gone.set()


async def answers(recorder: Recorder, records: list[UsageRecord], clients: int, seconds: float) -> float:
    """Let ``clients`` record for ``seconds``; return how many were told a second."""
    asking = Clients(recorder, records, clients)
    await asyncio.sleep(seconds / 10)
    before, began = asking.told, time.monotonic()
    await asyncio.sleep(seconds)
    rate = (asking.told - before) / (time.monotonic() - began)
    await asking.stop()
    recorder.close()
    return rate


class Disk:
    """Syncs, and measures how long that takes."""

    def __init__(self) -> None:
        self.took: list[float] = []

    def sync(self, descriptors: list[int]) -> None:
        began = time.perf_counter()
        sync_all(descriptors)
        self.took.append(time.perf_counter() - began)


def fail(error: Exception) -> None:
    raise SystemExit(str(error))


def one_round(folder: Path, records: list[UsageRecord], clients: int, seconds: float) -> dict[str, float]:
    """Return answers a second of each, the limit of the second, and the seconds of a sync."""
    plain = JournalWriter(folder / "process", "gateway-0")
    synced = JournalWriter(folder / "power", "gateway-0", syncs=True)
    disk = Disk()

    async def power() -> float:
        return await answers(DurableRecorder(synced, disk.sync, fail), records, clients, seconds)

    async def process() -> float:
        return await answers(Recorder(plain), records, clients, seconds)

    rates = {"process": uvloop.run(process()), "power": uvloop.run(power())}
    sync = statistics.mean(disk.took)
    return rates | {"limit": clients / sync, "sync": sync}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where to write (default: here)")
    arguments = parser.parse_args()
    records = make_records(1024)
    print(f"{'clients':>7}  {'process/s':>10}  {'power/s':>9}  {'limit/s':>9}  {'sync':>8}  power / limit")
    for clients in arguments.clients:
        rounds = []
        for _ in range(arguments.rounds):
            with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=".durability-") as folder:
                rounds.append(one_round(Path(folder), records, clients, arguments.seconds))
        middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
        ratio = statistics.median(each["power"] / each["limit"] for each in rounds)
        print(
            f"{clients:>7}  {middle['process']:>10,.0f}  {middle['power']:>9,.0f}  {middle['limit']:>9,.0f}"
            f"  {1000 * middle['sync']:>5.2f} ms  {ratio:.3f}"
        )


if __name__ == "__main__":
    main()
