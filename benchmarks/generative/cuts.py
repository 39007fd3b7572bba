"""How soon a slot is free when a client cuts its stream, while all are taken and somebody waits for one.

The time is from the cut to the moment at which the engine may begin the next: when that one's wait in the queue ended,
as the server itself tells in its access log (``queue_us``). It is counted from when the head of its answer came here,
which the server sends as soon as it stands in the queue: what is told is too long by the way of that head, never too
short. That the engine does begin then shows in the first token: beside it stands that of one who finds a slot free,
with the same fifteen streams going on.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise

import httpx
from served import Served, Stream
from texts import endless, prompts

from servers import Server

SLOTS = 16
_PATIENCE_SECONDS = 4.0  # for metrics to follow


@dataclass
class Cuts:
    """Seconds, of each round."""

    freed: list[float] = field(default_factory=list)  # from the cut until the next was begun
    waiting: list[float] = field(default_factory=list)  # from the cut to the first token of the next
    free: list[float] = field(default_factory=list)  # from being asked to the first token of one who finds a slot free
    steps: list[float] = field(default_factory=list)  # between two tokens of a stream beside them


def cancel(server: Server, rounds: int) -> None:
    """Fill every slot, cut one stream, and see how soon one that waits begins."""
    cuts = asyncio.run(_cut_streams(server, rounds))
    waiting, free, step = (statistics.median(each) * 1e3 for each in (cuts.waiting, cuts.free, cuts.steps))
    freed = sorted(each * 1e3 for each in cuts.freed)
    print(f"\na stream is cut while all {SLOTS} slots are taken, {rounds} times\n"
          f"  cut to free slot: {statistics.median(freed):.0f} ms (median; {freed[0]:.0f} to {freed[-1]:.0f}); a step "
          f"takes {step:.0f} ms\n  first token of the next in the queue {waiting:.0f} ms after the cut; of one that "
          f"finds a slot free beside the others {free:.0f} ms after it asks")  # fmt: skip


async def _cut_streams(server: Server, rounds: int) -> Cuts:
    served, chance, cuts = Served(server), random.Random(3), Cuts()
    others: list[Stream] = []
    while len(cuts.freed) < rounds:
        others += await _fill(served, server, SLOTS - 1, chance)
        victim = await _spoken(served, endless(1, chance)[0])
        next_one = await served.begin(prompts(1, chance)[0], 2)
        await next_one.head()
        counts = await _becomes(server, (SLOTS, 1))  # else a stream ended by itself, and it waits no more
        cut_at = time.perf_counter()
        victim.writer.close()
        await next_one.rest()
        counts = counts and await _becomes(server, (SLOTS - 1, 0))
        asked_at = time.perf_counter()
        free_one = await served.begin(prompts(1, chance)[0], 16)
        await free_one.head()
        await free_one.rest()
        freed = next_one.taken_at + await _queued(server, next_one.request_id) - cut_at
        if counts and freed > 0 and await _becomes(server, (SLOTS - 1, 0)):
            cuts.freed.append(freed)
            cuts.waiting.append(next_one.events_at[0] - cut_at)
            cuts.free.append(free_one.events_at[0] - asked_at)
            cuts.steps += [after - before for before, after in pairwise(free_one.events_at)]
    for stream in others:
        stream.writer.close()
    return cuts


async def _spoken(served: Served, text: str) -> Stream:
    """Begin a stream, and wait for its first token."""
    stream = await served.begin(text, 2000)
    await stream.head()
    await stream.next()
    return stream


async def _fill(served: Served, server: Server, wanted: int, chance: random.Random) -> list[Stream]:
    """Begin streams until so many go on: some end by themselves."""
    begun = []
    while missing := max(0, wanted - (await _state(server))[0]):
        begun += [await _spoken(served, text) for text in endless(missing, chance)]
        await _becomes(server, (wanted, 0))
    return begun


async def _state(server: Server) -> tuple[int, int]:
    """Return how many streams run and wait."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {server.key}"}) as client:
        text = (await client.get(f"{server.url}/metrics")).text
    return _told(text, "mofang_generate_running"), _told(text, "mofang_generate_waiting")


async def _becomes(server: Server, wanted: tuple[int, int]) -> bool:
    """Wait until so many streams run and wait: metrics are a second old at most. False if it does not come to that."""
    until = time.perf_counter() + _PATIENCE_SECONDS
    while await _state(server) != wanted:
        if time.perf_counter() > until:
            return False
        await asyncio.sleep(0.1)
    return True


def _told(metrics: str, gauge: str) -> int:
    """Return what the gateways say at most; -1 if none does."""
    lines = re.findall(rf"^{gauge}{{.*}} (\S+)$", metrics, re.MULTILINE)
    return max((int(float(value)) for value in lines), default=-1)


async def _queued(server: Server, request_id: str) -> float:
    """Return the seconds that a request waited for its slot, as soon as the access log has it."""
    while True:
        for log in (server.data / "logs").glob("access-*.jsonl"):
            for line in log.read_text().splitlines():
                if request_id in line:
                    return float(json.loads(line)["queue_us"]) / 1e6
        await asyncio.sleep(0.1)
