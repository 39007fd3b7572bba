"""Serving a language model beside the bare engines, in one run: ``make bench-generative`` (QUICK=1: two minutes).

Every contender has a process of its own and is loaded before anything is measured; rounds take turns, so that a slow
moment of the machine hits all alike. Prompts of about 68 tokens that share no beginning, 128 new tokens, greedy, two
cores, the client included. Reported are medians over the rounds, and the ratios that matter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from models import SMOLLM2, fetch  # noqa: E402
from servers import Server  # noqa: E402

TOKENS = 128
WORDS = (
    "river",
    "stone",
    "light",
    "garden",
    "window",
    "paper",
    "music",
    "winter",
    "silver",
    "forest",
    "letter",
    "summer",
)
Marks = list[list[float]]


def prompts(count: int, chance: random.Random, words: int = 60) -> list[str]:
    """Return texts of about 68 tokens, each with a beginning of its own."""
    return [f"{chance.randrange(10**6)} " + " ".join(chance.choices(WORDS, k=words)) + ". So" for _ in range(count)]


class Bare:
    """A bare engine's process."""

    def __init__(self, name: str, model: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("bare.py")), name, str(model)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._read()

    def run(self, texts: list[str], tokens: int) -> Marks:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompts": texts, "tokens": tokens}) + "\n")
        self._process.stdin.flush()
        marks: Marks = self._read()["marks"]
        return marks

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the engine's process ended"
        found: dict[str, Any] = json.loads(line)
        return found


class Served:
    """Our server, asked over HTTP as a client does."""

    def __init__(self, server: Server) -> None:
        host, port = server.url.removeprefix("http://").split(":")
        self._address = (host, int(port))
        self._key = server.key

    def run(self, texts: list[str], tokens: int) -> Marks:
        async def all_of_them() -> Marks:
            started = time.perf_counter()
            return [*await asyncio.gather(*(self._ask(text, tokens, started) for text in texts))]

        return asyncio.run(all_of_them())

    async def _ask(self, text: str, tokens: int, started: float) -> list[float]:
        reader, writer = await asyncio.open_connection(*self._address)
        body = json.dumps(
            {"model": "smol", "prompt": text, "max_tokens": tokens, "temperature": 0, "stream": True}
        ).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._key}\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        marks: list[float] = []
        while b"[DONE]" not in (line := await reader.readline()):
            assert line, "the stream broke off"
            if line.startswith(b"data: "):
                marks.append(time.perf_counter() - started)
        writer.close()
        return marks


@dataclass
class Figures:
    """What the rounds of one contender came to."""

    rates: list[float] = field(default_factory=list)  # tokens a second
    firsts: list[float] = field(default_factory=list)  # seconds
    gaps: list[float] = field(default_factory=list)

    def add(self, marks: Marks) -> None:
        self.rates.append(sum(map(len, marks)) / max(mark[-1] for mark in marks))
        self.firsts += [mark[0] for mark in marks]
        self.gaps += [after - before for mark in marks for before, after in pairwise(mark)]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def first(self) -> float:
        return statistics.median(self.firsts)

    def gap(self, share: float) -> float:
        return sorted(self.gaps)[min(len(self.gaps) - 1, int(share * len(self.gaps)))]


def measure(contenders: dict[str, Any], streams: int, rounds: int, chance: random.Random) -> dict[str, Figures]:
    figures = {name: Figures() for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names if number % 2 else reversed(names):
            figures[name].add(contenders[name].run(prompts(streams, chance), TOKENS))
    return figures


def show(streams: int, figures: dict[str, Figures]) -> None:
    print(f"\n{streams} stream{'s' if streams > 1 else ''}: tokens/s, first token, between tokens p50 / p99")
    for name, each in figures.items():
        gaps = f"{each.gap(0.5) * 1e3:6.1f} / {each.gap(0.99) * 1e3:6.1f} ms"
        print(f"  {name:<10} {each.rate:7.1f}  {each.first * 1e3:8.1f} ms  {gaps}")
    ours, bare = figures["mofang"], figures["openvino"]
    pairs = [a / b for a, b in zip(ours.rates, bare.rates, strict=True)]
    rate, first = statistics.median(pairs), (ours.first - bare.first) * 1e3
    print(f"  mofang / bare openvino: {rate:.3f} tokens/s; first token {first:+.1f} ms; "
          f"p99 between tokens {ours.gap(0.99) / bare.gap(0.99):.2f}")  # fmt: skip
    if "xllamacpp" in figures:
        print(f"  mofang / bare xllamacpp: {ours.rate / figures['xllamacpp'].rate:.2f} tokens/s")


def prefix(contenders: dict[str, Any], chance: random.Random) -> None:
    """Ask twice with the same thousand tokens before a question."""
    print("\na repeated prefix of about 1,000 tokens: first token cold, repeated")
    for name, contender in contenders.items():
        text = prompts(1, chance, words=900)[0]
        cold, warm = (contender.run([text + end], 2)[0][0] for end in (" one", " two"))
        print(f"  {name:<10} {cold * 1e3:8.1f} ms  {warm * 1e3:8.1f} ms")


@dataclass
class Cuts:
    """Seconds to the first token: of who waits when a stream is cut, and of who finds the slot free."""

    waiting: list[float] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)  # between two tokens of a stream beside them


def cancel(server: Server, rounds: int) -> None:
    """Fill every slot, cut one stream, and see how soon one that waits begins; beside one that finds the slot free.

    Both begin while the same fifteen streams go on, and read a prompt of their own: what the first takes longer is what
    it takes to notice the cut and to free the slot, up to the wait for the end of a step, which both have.
    """
    cuts = asyncio.run(cut_streams(server, rounds))
    waiting, free, step = (statistics.median(each) * 1e3 for each in (cuts.waiting, cuts.free, cuts.steps))
    print(f"\na stream is cut while all 16 slots are taken, median of {rounds}: first token of the next in the queue "
          f"after {waiting:.0f} ms; of one that finds a slot free beside the others after {free:.0f} ms; a step "
          f"takes {step:.0f} ms\n  cut to free slot: {waiting - free:+.0f} ms and the rest of a step")  # fmt: skip


async def cut_streams(server: Server, rounds: int) -> Cuts:
    served, chance, cuts = Served(server), random.Random(3), Cuts()
    others: list[asyncio.StreamWriter] = []
    while len(cuts.waiting) < rounds:
        others += await fill(served, server, 15, chance)
        reader, victim = await held(served, endless(1, chance)[0])
        await spoken(reader)
        asked = time.perf_counter()
        waiting = asyncio.create_task(served._ask(prompts(1, chance)[0], 2, asked))
        await asyncio.sleep(0.3)
        counts = await state(server) == (16, 1)  # else a stream ended by itself, and it waits no more
        cut_at = time.perf_counter()
        victim.close()
        first = (await waiting)[0] - (cut_at - asked)
        await asyncio.sleep(0.3)
        free = (await served._ask(prompts(1, chance)[0], 2, time.perf_counter()))[0]
        marks = await served._ask(prompts(1, chance)[0], 16, 0.0)
        if counts and await state(server) == (15, 0):
            cuts.waiting.append(first)
            cuts.free.append(free)
            cuts.steps += [after - before for before, after in pairwise(marks)]
    for writer in others:
        writer.close()
    return cuts


def endless(count: int, chance: random.Random) -> list[str]:
    """Return texts of about 68 tokens after which the model says the same word for ever."""
    return [f"{chance.randrange(10**6)}" + f" {chance.choice(WORDS)}" * 62 for _ in range(count)]


async def spoken(reader: asyncio.StreamReader) -> None:
    """Wait for the first event."""
    while not (line := await reader.readline()).startswith(b"data: "):
        assert line, "the stream broke off"


async def fill(served: Served, server: Server, wanted: int, chance: random.Random) -> list[asyncio.StreamWriter]:
    """Begin streams until so many go on: some end by themselves."""
    writers = []
    while missing := max(0, wanted - (await state(server))[0]):
        for text in endless(missing, chance):
            reader, writer = await held(served, text)
            await spoken(reader)
            writers.append(writer)
        await asyncio.sleep(0.1)
    return writers


async def state(server: Server) -> tuple[int, int]:
    """Return how many streams run and wait."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {server.key}"}) as client:
        text = (await client.get(f"{server.url}/metrics")).text
    return told(text, "mofang_generate_running"), told(text, "mofang_generate_waiting")


def told(metrics: str, gauge: str) -> int:
    """Return what the gateways say at most; -1 if none does."""
    lines = re.findall(rf"^{gauge}{{.*}} (\S+)$", metrics, re.MULTILINE)
    return max((int(float(value)) for value in lines), default=-1)


async def held(served: Served, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*served._address)
    body = json.dumps({"model": "smol", "prompt": text, "max_tokens": 2000, "temperature": 0, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {served._key}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


def deploy(server: Server, model: Path) -> None:
    """Push, then time from the word to the first token."""
    client = server.client
    job = client.jobs.wait(client.register.push("smol", [model], engine="openvino").id)
    began = time.perf_counter()
    client.deploy.roll_out("smol", f"smol@{job.result['version']}")
    first = Served(server).run(["Hello"], 2)[0][0]
    print(f"deploy to first token: {time.perf_counter() - began:.1f} s, of which the answer {first * 1e3:.0f} ms")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, without xllamacpp at 8 streams")
    quick = parser.parse_args(arguments).quick
    model, chance, rounds = fetch(SMOLLM2), random.Random(1), 3 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data")
        contenders: dict[str, Any] = {}
        try:
            deploy(server, model)
            contenders = {"mofang": Served(server), "openvino": Bare("openvino", model)}
            llama = Bare("xllamacpp", model)
            for contender in (*contenders.values(), llama):
                contender.run(prompts(2, chance), 8)  # what is made once is made
            one = measure(contenders, 1, rounds, chance)
            show(1, one)
            eight = measure(contenders, 8, rounds, chance)
            extra = measure({"xllamacpp": llama}, 8, 1 if quick else 3, chance)
            show(8, eight | extra)
            print(f"  scaling 1 to 8 streams: {eight['mofang'].rate / one['mofang'].rate:.2f}")
            prefix(contenders, chance)
            cancel(server, 5 if quick else 11)
            llama.close()
        finally:
            if "openvino" in contenders:
                contenders["openvino"].close()
            server.close()


if __name__ == "__main__":
    main()
