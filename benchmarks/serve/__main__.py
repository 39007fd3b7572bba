"""What serving costs on one core, beside the server an expert writes by hand, and beside others that install.

    python benchmarks/serve [--quick] [--models tiny,cnn,encoder,minilm] [--rounds N] [--seconds S] [--only TEXT]
                            [--peers mlserver,litserve,bentoml,ray,pytriton] [--whole]

The servers run on core 0, the load generator on core 1. Contenders take turns slice by slice; before and after every
slice a fixed loop measures how fast the core is just then, and a slice is dropped if the core was slow or if others
used it. Medians of what is left are printed, as inferences a second and as a share of the raw ASGI server of the same
run. Only the ratios travel: on another machine, or another day, the figures differ and the ratios hardly.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import environments
import machine
from contenders import Contender, Mofang, Peer, PeerSilent, RawAsgi, limit
from goals import RAW, Case, Figure, Measured
from goals import compare as goals
from load import generator, shoot, shoot_grpc
from whole import whole

from models import MODELS, Model

SERVER_CORE, LOAD_CORE = 0, 1
SLOW = 0.85  # of the best speed seen: below it a slice is dropped
TURNS, FEW_TURNS = 40, 10  # so often each client is answered in a slice at least, if all goes as ONNX Runtime computes
FOREIGN = 0.10  # of a core used by others during a slice: above it the slice is dropped
FORMS = {  # in a full run; the first alone in a quick one
    "tiny": ("JSON", "binary", "gRPC"),
    "cnn": ("binary", "JSON", "gRPC"),
    "encoder": ("binary",),
    "minilm": ("binary", "JSON"),
}
CLIENTS = {"tiny": (1, 8, 64), "cnn": (1, 8, 64), "encoder": (1, 8), "minilm": (1, 8)}
PEER_CASES: list[Case] = [("JSON", 1), ("JSON", 64)]


@dataclass(frozen=True)
class Slice:
    """One contender under one load for some seconds."""

    rate: float
    per_core_second: float  # answers for each second of processor time the server took
    p50_ms: float
    speed: float  # of the server's core, the worse of before and after
    foreign: float  # share of the server's core that others used


def measure(contender: Contender, model: Model, case: Case, seconds: float) -> Slice:
    """Load one contender."""
    form, clients = case
    path, headers, body = contender.request(model, form)
    before = machine.speed(SERVER_CORE)
    core, own = machine.busy_seconds(SERVER_CORE), machine.tree_seconds(contender.pid)
    if form == "gRPC":
        shot = shoot_grpc(str(LOAD_CORE), contender.grpc_port, headers, body, clients, seconds)
    else:
        shot = shoot(str(LOAD_CORE), contender.port, headers, body, clients, seconds, path)
    core, own = machine.busy_seconds(SERVER_CORE) - core, machine.tree_seconds(contender.pid) - own
    after = machine.speed(SERVER_CORE)
    contender.tidy()
    if shot.errors:
        raise RuntimeError(f"{contender.name}: {shot.errors} requests failed")
    answers = shot.rate * seconds
    return Slice(shot.rate, answers / max(own, 0.01), shot.p50_ms, min(before, after), max(0.0, core - own) / seconds)


def rounds(
    contenders: list[Contender], model: Model, cases: dict[Case, float], count: int
) -> Iterator[tuple[str, Case, Slice]]:
    """Yield the slices: in every round each case for its seconds, in every case each contender."""
    for number in range(count):
        for case, seconds in cases.items():
            for contender in contenders if number % 2 else reversed(contenders):
                if contender.speaks(case[0]):
                    yield contender.name, case, measure(contender, model, case, seconds)
        sys.stderr.write(f"round {number + 1} of {count}\n")


def good(slices: list[Slice], best: float) -> tuple[list[Slice], str]:
    """Return the slices in which the machine was fast and ours; if there is none the two best, and a mark."""
    kept = [each for each in slices if each.speed >= SLOW * best and each.foreign <= FOREIGN]
    return (kept, "") if kept else (sorted(slices, key=lambda each: each.foreign - each.speed / best)[:2], " !")


def figures(found: dict[tuple[str, Case], list[Slice]]) -> dict[tuple[str, Case], Figure]:
    """Return the medians of what is good."""
    best = max(each.speed for slices in found.values() for each in slices)
    medians = {}
    for key, slices in found.items():
        kept, mark = good(slices, best)
        columns = zip(*((each.rate, each.per_core_second, each.p50_ms) for each in kept), strict=True)
        medians[key] = Figure(*map(statistics.median, columns), len(kept), len(slices), clean=not mark)
    return medians


def table(found: dict[tuple[str, Case], Figure], names: list[str], cases: list[Case]) -> list[str]:
    """Return the lines of the table.

    Every ratio is to the raw ASGI server, in the same case, or over gRPC, which it does not speak, with JSON.
    """
    heads = (
        f"{'clients':>7} {'inferences/s':>13} {'ratio':>6} {'per core s':>11} {'ratio':>6} {'p50 ms':>7} {'slices':>7}"
    )
    lines = [f"{'':32} {heads}"]
    for case in cases:
        for name in names:
            if (one := found.get((name, case))) is None:
                continue
            base = found.get((RAW, case)) or found.get((RAW, ("JSON", case[1]))) or one
            lines.append(
                f"{name + ', ' + case[0]:32} {case[1]:7} {one.rate:13,.0f} {one.rate / base.rate:6.2f} "
                f"{one.per_core_second:11,.0f} {one.per_core_second / base.per_core_second:6.2f} {one.p50_ms:7.3f} "
                f"{one.kept:3} of {one.slices}{'' if one.clean else ' !'}"
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
    parser.add_argument("--quick", action="store_true", help="about a minute: tiny, JSON, fewer clients and rounds")
    parser.add_argument("--models", default="", help="which models, with commas between")
    parser.add_argument("--forms", default="", help="JSON, binary, gRPC, with commas between")
    parser.add_argument("--rounds", type=int, default=0, help="slices of each contender in each case")
    parser.add_argument("--seconds", type=float, default=0, help="length of a slice, at least")
    parser.add_argument("--clients", default="", help="numbers of clients, with commas between")
    parser.add_argument("--only", default="", help="only contenders with this in their name, and raw ASGI")
    parser.add_argument("--peers", default=None, help="servers from packages to compare with, with commas between")
    parser.add_argument("--whole", action="store_true", help="measure starting, memory and two gateways of `mofang up`")
    given = parser.parse_args()
    given.rounds = given.rounds or (4 if given.quick else 6)
    given.seconds = given.seconds or 1
    if not given.models and not given.quick and given.peers is None and not given.whole:  # everything
        given.peers, given.whole = ",".join(environments.PACKAGES), True
        given.models = "tiny,cnn,encoder,minilm"
    elif not given.models and given.peers is None and not given.whole:
        given.models = "tiny"
    return given


def cases_of(model: str, given: argparse.Namespace) -> list[Case]:
    """Return the cases that are measured of a model."""
    forms = given.forms.split(",") if given.forms else FORMS[model][:1] if given.quick else FORMS[model]
    clients = map(int, given.clients.split(",")) if given.clients else (1, 64) if given.quick else CLIENTS[model]
    return [(form, count) for count in clients for form in forms]


def lengths(cases: list[Case], seconds: float, limit: float = math.inf) -> dict[Case, float]:
    """Return how many seconds a slice of each case takes: of a slow model more.

    What is being computed when a slice ends is not counted: half a turn of all clients. In binary form, in which
    models are held against the limit, that is to be one part in eighty.
    """
    return {
        (form, clients): max(seconds, math.ceil((TURNS if form == "binary" else FEW_TURNS) * clients / limit))
        for form, clients in cases
    }


def limits_of(folder: Path) -> dict[int, float]:
    """Return the rows a second that ONNX Runtime alone computes, by rows of a batch."""
    return {batch: limit(SERVER_CORE, folder, batch, 3.0) for batch in (1, 8, 32)}


def compare(model: Model, scratch: Path, given: argparse.Namespace) -> list[str]:
    """Measure all contenders with one model; return the lines to print."""
    folder, cases = scratch / model.name, cases_of(model.name, given)
    model.save(folder)
    before = limits_of(folder)
    contenders: list[Contender] = [RawAsgi(SERVER_CORE, folder)]
    contenders += [
        Mofang(SERVER_CORE, folder, scratch, placement, mode)
        for placement in ("thread", "process")
        for mode in ("governed", "bare")
        if given.only in f"{placement}, {mode}"
    ]
    found, memory = race(contenders, model, lengths(cases, given.seconds, min(before.values())), given.rounds)
    after = limits_of(folder)  # the machine may have become slower or faster meanwhile
    limits = {batch: (rate + after[batch]) / 2 for batch, rate in before.items()}
    return [
        f"{model.name}. ONNX Runtime alone: " + ", ".join(f"batch {b}: {rate:,.0f}/s" for b, rate in limits.items()),
        f"memory: {memory}\n",
        *table(found, [each.name for each in contenders], cases),
        *goals(model, Measured(found, limits)),
        "",
    ]


def race(
    contenders: list[Contender], model: Model, cases: dict[Case, float], count: int
) -> tuple[dict[tuple[str, Case], Figure], str]:
    """Return what was measured of the contenders, and what memory each held."""
    found: dict[tuple[str, Case], list[Slice]] = defaultdict(list)
    started: list[Contender] = []
    try:
        for contender in contenders:
            contender.start()
            started.append(contender)
        for name, case, one in rounds(contenders, model, cases, count):
            found[name, case].append(one)
        memory = [f"{each.name} {machine.tree_megabytes(each.pid):.0f} MB" for each in contenders]
    finally:
        for contender in started:
            contender.stop()
    return figures(found), ", ".join(memory)


def beside_peers(scratch: Path, given: argparse.Namespace) -> list[str]:
    """Measure the tiny model in servers that install from packages, each alone in turns with ours and the raw one."""
    model, folder, lines = MODELS["tiny"], scratch / "tiny", []
    model.save(folder)
    for name in given.peers.split(","):
        ours = [Mofang(SERVER_CORE, folder, scratch, placement, "governed") for placement in ("thread", "process")]
        try:
            contenders = [RawAsgi(SERVER_CORE, folder), *ours, Peer(SERVER_CORE, model, folder, scratch, name)]
            found, memory = race(contenders, model, lengths(PEER_CASES, given.seconds), given.rounds)
        except environments.NotInstalled as reason:
            lines.append(f"{name} does not install: {reason}\n")
        except PeerSilent as reason:
            lines.append(f"{name} does not start: {reason}\n")
        else:
            lines += [f"memory: {memory}\n", *table(found, [each.name for each in contenders], PEER_CASES)]
    return lines


def main() -> int:
    """Measure and print."""
    given = parse()
    if (os.cpu_count() or 1) < 2:
        sys.stderr.write("two cores are needed: one for the servers, one for the load\n")
        return 1
    os.sched_setaffinity(0, {LOAD_CORE})
    print(machine.describe())
    print(f"load: {generator()}; servers on core {SERVER_CORE}, load on core {LOAD_CORE}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as scratch:
        for name in filter(None, given.models.split(",")):
            if name == "minilm" and find_spec("transformers") is None:
                print("minilm: needs the extra: pip install 'mofang[transformers]'\n", flush=True)
                continue
            print("\n".join(compare(MODELS[name], Path(scratch), given)), flush=True)
        if given.peers:
            print("\n".join(beside_peers(Path(scratch), given)), flush=True)
        if given.whole:
            MODELS["tiny"].save(Path(scratch) / "tiny")
            os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE})
            lines = whole(MODELS["tiny"], Path(scratch) / "tiny", Path(scratch), given.rounds, given.seconds)
            print("\n".join(lines), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
