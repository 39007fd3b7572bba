"""What serving costs on one core, beside the server an expert writes by hand.

    python benchmarks/serve [--quick] [--rounds N] [--seconds S] [--only TEXT]

The servers run on core 0, the load generator on core 1. Contenders take turns slice by slice; before and after every
slice a fixed loop measures how fast the core is just then, and a slice is dropped if the core was slow or if others
used it. Medians of what is left are printed, as inferences a second and as a share of the raw ASGI server of the same
run. Only the ratios travel: on another machine, or another day, the figures differ and the ratios hardly.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import machine
import tiny
from contenders import Contender, Mofang, RawAsgi, limit
from load import generator, shoot

SERVER_CORE, LOAD_CORE = 0, 1
SLOW = 0.85  # of the best speed seen: below it a slice is dropped
FOREIGN = 0.10  # of a core used by others during a slice: above it the slice is dropped
REQUESTS = {"JSON": tiny.json_request, "binary": tiny.binary_request}


@dataclass(frozen=True)
class Slice:
    """One contender under one load for some seconds."""

    rate: float
    per_core_second: float  # answers for each second of processor time the server took
    p50_ms: float
    speed: float  # of the server's core, the worse of before and after
    foreign: float  # share of the server's core that others used


Case = tuple[str, int]  # form of the request, clients


def measure(contender: Contender, case: Case, seconds: float) -> Slice:
    """Load one contender."""
    form, clients = case
    headers, body = REQUESTS[form]()
    if contender.key:
        headers["authorization"] = f"Bearer {contender.key}"
    before = machine.speed(SERVER_CORE)
    core, own = machine.busy_seconds(SERVER_CORE), machine.tree_seconds(contender.pid)
    shot = shoot(LOAD_CORE, contender.port, headers, body, clients, seconds)
    core, own = machine.busy_seconds(SERVER_CORE) - core, machine.tree_seconds(contender.pid) - own
    after = machine.speed(SERVER_CORE)
    contender.tidy()
    if shot.errors:
        raise RuntimeError(f"{contender.name}: {shot.errors} requests failed")
    answers = shot.rate * seconds
    return Slice(shot.rate, answers / max(own, 0.01), shot.p50_ms, min(before, after), max(0.0, core - own) / seconds)


def rounds(
    contenders: list[Contender], cases: list[Case], count: int, seconds: float
) -> Iterator[tuple[str, Case, Slice]]:
    """Yield the slices: in every round each case, in every case each contender."""
    for number in range(count):
        for case in cases:
            for contender in contenders if number % 2 else reversed(contenders):
                yield contender.name, case, measure(contender, case, seconds)
        sys.stderr.write(f"round {number + 1} of {count}\n")


def good(slices: list[Slice], best: float) -> tuple[list[Slice], str]:
    """Return the slices in which the machine was fast and ours; if there is none the two best, and a mark."""
    kept = [each for each in slices if each.speed >= SLOW * best and each.foreign <= FOREIGN]
    return (kept, "") if kept else (sorted(slices, key=lambda each: each.foreign - each.speed / best)[:2], " !")


def table(found: dict[tuple[str, Case], list[Slice]], names: list[str], cases: list[Case]) -> list[str]:
    """Return the lines of the table; every ratio is to the first contender, in the same case."""
    best = max(each.speed for slices in found.values() for each in slices)
    heads = (
        f"{'clients':>7} {'inferences/s':>13} {'ratio':>6} {'per core s':>11} {'ratio':>6} {'p50 ms':>7} {'slices':>7}"
    )
    lines = [f"{'':32} {heads}"]
    for case in cases:
        base = None
        for name in names:
            kept, mark = good(found[name, case], best)
            rate = statistics.median(each.rate for each in kept)
            per_core = statistics.median(each.per_core_second for each in kept)
            p50 = statistics.median(each.p50_ms for each in kept)
            base = base or (rate, per_core)
            lines.append(
                f"{name + ', ' + case[0]:32} {case[1]:7} {rate:13,.0f} {rate / base[0]:6.2f} {per_core:11,.0f} "
                f"{per_core / base[1]:6.2f} {p50:7.3f} {len(kept):3} of {len(found[name, case])}{mark}"
            )
        lines.append("")
    if any(line.endswith("!") for line in lines):
        lines.append(
            "!: no slice was clean; the machine was slow or in use by others, and the figure is a hint at most"
        )
    return lines


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Serving a tiny model on one core.")
    parser.add_argument("--quick", action="store_true", help="about a minute: JSON only, fewer clients and rounds")
    parser.add_argument("--rounds", type=int, default=0, help="slices of each contender in each case")
    parser.add_argument("--seconds", type=float, default=0, help="length of a slice")
    parser.add_argument("--clients", default="", help="numbers of clients, with commas between")
    parser.add_argument("--only", default="", help="only contenders with this in their name, and raw ASGI")
    given = parser.parse_args()
    given.rounds = given.rounds or (4 if given.quick else 6)
    given.seconds = given.seconds or 1
    given.clients = (
        [int(each) for each in given.clients.split(",")] if given.clients else [1, 64] if given.quick else [1, 8, 64]
    )
    return given


def main() -> int:
    """Measure and print."""
    given = parse()
    if (os.cpu_count() or 1) < 2:
        sys.stderr.write("two cores are needed: one for the servers, one for the load\n")
        return 1
    os.sched_setaffinity(0, {LOAD_CORE})
    print(machine.describe())
    print(f"load: {generator()}; servers on core {SERVER_CORE}, load on core {LOAD_CORE}\n", flush=True)
    cases = [(form, clients) for form in (["JSON"] if given.quick else ["JSON", "binary"]) for clients in given.clients]
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as scratch:
        model = Path(scratch) / "tiny"
        tiny.save(model)
        limits = {batch: limit(SERVER_CORE, model, batch, 0.5) for batch in (1, 8, 32)}
        contenders: list[Contender] = [RawAsgi(SERVER_CORE, model)]
        contenders += [
            Mofang(SERVER_CORE, model, Path(scratch), placement, mode)
            for placement in ("thread", "process")
            for mode in ("governed", "bare")
            if given.only in f"{placement}, {mode}"
        ]
        found: dict[tuple[str, Case], list[Slice]] = defaultdict(list)
        try:
            for contender in contenders:
                contender.start()
            for name, case, one in rounds(contenders, cases, given.rounds, given.seconds):
                found[name, case].append(one)
        finally:
            for contender in contenders:
                if hasattr(contender, "_process"):
                    contender.stop()
    print("ONNX Runtime alone: " + ", ".join(f"batch {b}: {rate:,.0f}/s" for b, rate in limits.items()) + "\n")
    print("\n".join(table(found, [each.name for each in contenders], cases)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
