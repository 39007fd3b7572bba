"""Serving a language model beside the bare engines, in one run: ``make bench-generative`` (QUICK=1: two minutes).

Every contender has a process of its own and is loaded before anything is measured; rounds take turns, so that a slow
moment of the machine hits all alike. Prompts of about 68 tokens that share no beginning, 128 new tokens, greedy, two
cores, the client included. vLLM comes last, and only where `make test-vllm` has installed it: it computes when idle,
too. Reported are medians over the rounds, and the ratios that matter.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "frameworks")]

from contenders import Bare  # noqa: E402
from cuts import cancel  # noqa: E402
from language_folders import smollm2  # noqa: E402
from others import others  # noqa: E402
from served import Marks, Served  # noqa: E402
from texts import prompts  # noqa: E402

from models import SMOLLM2, fetch  # noqa: E402
from servers import Server  # noqa: E402

TOKENS = 128
PARTS = ("bare", "others", "cuts")
VLLM = ROOT / ".cache" / "vllm" / "bin" / "python"  # made by `make test-vllm`


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
    for name in figures.keys() & {"xllamacpp", "vllm"}:
        print(f"  mofang / bare {name}: {ours.rate / figures[name].rate:.2f} tokens/s")


def prefix(contenders: dict[str, Any], chance: random.Random) -> None:
    """Ask twice with the same thousand tokens before a question."""
    print("\na repeated prefix of about 1,000 tokens: first token cold, repeated")
    for name, contender in contenders.items():
        text = prompts(1, chance, words=900)[0]
        cold, warm = (contender.run([text + end], 2)[0][0] for end in (" one", " two"))
        print(f"  {name:<10} {cold * 1e3:8.1f} ms  {warm * 1e3:8.1f} ms")


def deploy(server: Server, model: Path) -> None:
    """Push, and let the engines be measured; then time from the word to the first token."""
    client = server.client
    began = time.perf_counter()
    job = client.jobs.wait(client.register.push("smol", [model]).id)
    pushed = time.perf_counter()
    choice = job.result["choice"]
    print(f"push, engines measured: {pushed - began:.1f} s; {choice['engine']}, since {choice['why']}")
    client.deploy.roll_out("smol", f"smol@{job.result['version']}")
    first = Served(server).run(["Hello"], 2)[0][0]
    print(f"deploy to first token: {time.perf_counter() - pushed:.1f} s, of which the answer {first * 1e3:.0f} ms")


def beside_bare(server: Server, model: Path, quick: bool) -> None:
    """Measure the server and bare engines in turns."""
    chance, rounds = random.Random(1), 3 if quick else 7
    contenders: dict[str, Any] = {"mofang": Served(server), "openvino": Bare("openvino", model)}
    slower = {"xllamacpp": Bare("xllamacpp", model)}
    for contender in (*contenders.values(), *slower.values()):
        contender.run(prompts(2, chance), 8)  # what is made once is made
    one = measure(contenders, 1, rounds, chance)
    show(1, one)
    eight = measure(contenders, 8, rounds, chance)
    prefix(contenders, chance)
    if VLLM.exists():
        slower["vllm"] = Bare("vllm", smollm2(), str(VLLM))
        slower["vllm"].run(prompts(8, chance), TOKENS)
    show(8, eight | measure(slower, 8, 1 if quick else 3, chance))
    print(f"  scaling 1 to 8 streams: {eight['mofang'].rate / one['mofang'].rate:.2f}")
    for bare in (contenders["openvino"], *slower.values()):
        bare.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("parts", nargs="*", help=f"what is measured besides deploying: {', '.join(PARTS)}; all")
    asked = parser.parse_args(arguments)
    parts = asked.parts or PARTS
    model = fetch(SMOLLM2)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "data", environ={"MOFANG_ACCESS_SHARE": "1"})
        try:
            deploy(server, model)
            if "bare" in parts:
                beside_bare(server, model, asked.quick)
            if "others" in parts:
                others(server, 3 if asked.quick else 7)
            if "cuts" in parts:
                cancel(server, 5 if asked.quick else 11)
        finally:
            server.close()


if __name__ == "__main__":
    main()
