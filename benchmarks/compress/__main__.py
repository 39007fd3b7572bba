"""What compression buys: size, latency and throughput beside what is lost, measured in turns in one run.

    python benchmarks/compress [fashion|resnet18|efficientnet|minilm|forest ...] [--data FOLDER] [--time SECONDS]

Every row but ``resnet18`` is a search as `mofang compress` makes it, on a version in a workshop of its own; ``--data``
keeps the workshop, so that a model is trained once. ResNet-18 at 224 has random weights: there it is half of the
channels pruned, and integers, timed as the search would time them. Figures are of one thread; ratios are medians.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import cases
import numpy as np
import onnxruntime

from mofang.base.domain.errors import MofangError
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database
from mofang.make.compress.arena import arena
from mofang.make.compress.catalog import make
from mofang.make.compress.compare import Comparison
from mofang.make.compress.exam import Exam, loaded
from mofang.make.compress.step import Int8, Prune, told
from mofang.make.compress.store import VariantStore
from mofang.make.compress.subject import Means, Subject
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore
from mofang.make.workshop import Workshop


class Goal(NamedTuple):
    """How many times smaller, faster alone and faster in batches; and what may be lost."""

    size: float
    one: float
    many: float
    drop: float


class Row(NamedTuple):
    """A line of the table."""

    name: str
    steps: str
    found: Comparison
    seconds: float
    note: str = ""


GOALS = {
    "fashion": Goal(13, 4, 7, 0.005),
    "resnet18": Goal(14, 6.5, 6.5, 1),
    "efficientnet": Goal(3.8, 1.6, 1.6, 0.05),
    "minilm": Goal(3.8, 1.5, 1.8, 0.01),
    "forest": Goal(5, 3, 3, 0.005),
}


class Teller:
    """A Progress that prints what is new in one line."""

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Print it."""
        print(f"\r  {stage:<9} {fraction:4.0%}  {message[:90]:<90}", end="", flush=True)


def workshop(folder: Path, job: str) -> Workshop:
    """Make a workshop in ``folder``."""
    database = Database(f"sqlite:///{folder / 'mofang.db'}")
    database.migrate()
    blobs = DiskBlobs(folder / "blobs")
    return Workshop(
        blobs, DatasetStore(database), RunStore(database), EvaluationStore(database), VariantStore(database),
        Registry(database, blobs), Path(mkdtemp(dir=folder)), job, timing_seconds=1.5,
    )  # fmt: skip


def searched(name: str, registered: cases.Registered, tools: Workshop, seconds: float) -> Row:
    """Search for variants of a version, and return the one that was picked."""
    order = {"version": registered.version, "max_drop": GOALS[name].drop, "seconds": seconds}
    if registered.sample is not None:
        sample = tools.blobs.put_file(registered.sample)
        order |= {"calibration": sample.sha256, "filename": registered.sample.name}
    begun = time.perf_counter()
    JOB_KINDS["compress"](order, tools, Teller())
    taken = time.perf_counter() - begun
    found = tools.variants.newest(tools.registry.get(cases.ref(registered.version)).digest)
    print()
    for each in found:
        mark = "*" if each.is_picked else "+" if each.is_front else " "
        print(f"    {mark} {each.told}: {line(each.comparison)}  {each.refusal}".rstrip())
    picked = next(each for each in found if each.is_picked)
    assert picked.comparison is not None
    return Row(name, picked.told, picked.comparison, taken, picked.comparison.quality.parity)


def resnet18(tools: Workshop) -> Row:
    """Half of the channels, and integers, of a network with random weights."""
    begun = time.perf_counter()
    net, examples = cases.resnet18()
    root = Path(mkdtemp(dir=tools.scratch))
    folder = cases.written(net, Path(mkdtemp(dir=root)))
    rows = {"features": examples.features.reshape(len(examples.features), -1).astype(np.float32)}
    means = Means(
        Subject(folder, "onnx", net, "torch"), lambda: Path(mkdtemp(dir=root)), examples=examples, calibration=rows
    )
    steps = (Prune(0.5), Int8())
    pruned, integers = (make(steps[:count], means).folder for count in (1, 2))
    assert pruned is not None
    assert integers is not None
    exam = Exam(rows)
    with loaded("onnx", pruned) as before, loaded("onnx", integers) as after:
        quality = exam.judge(exam.answers(after, Teller()), exam.answers(before, Teller()), after)
    with arena("onnx", folder, rows, batchable=True) as grounds:
        latencies, memory, parent_memory = grounds.time(integers, 3.0, Teller())
    sizes = ((each / "model.onnx").stat().st_size for each in (integers, folder))
    found = Comparison(quality, *sizes, memory, parent_memory, latencies)
    print()
    return Row("resnet18", told(steps), found, time.perf_counter() - begun, f"beside the pruned: {quality.parity}")


def line(found: Comparison | None) -> str:
    """Say a comparison in one line."""
    if found is None:
        return "-"
    lost = f"{-100 * found.drop:+.2f} points of {found.quality.metric}"
    return (
        f"{1 / found.size_ratio:.1f}x smaller, {1 / found.one.ratio:.2f}x b{found.one.batch},"
        f" {1 / found.many.ratio:.2f}x b{found.many.batch}, {lost}"
    )


def main() -> None:
    """Measure the rows that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *GOALS], default=[])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--time", type=float, default=600.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as own:
        folder = asked.data or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for name in asked.names or GOALS:
            print(name)
            try:
                rows.append(_row(name, workshop(folder, f"bench-{name}"), asked.time))
            except MofangError as error:
                print(f"\n  {error}\n  {error.hint}")
        _table(rows)


def _row(name: str, tools: Workshop, seconds: float) -> Row:
    makers: dict[str, Callable[[], cases.Registered]] = {
        "fashion": lambda: cases.fashion(tools, Teller()),
        "efficientnet": lambda: cases.efficientnet(tools),
        "minilm": lambda: cases.minilm(tools, Teller()),
        "forest": lambda: cases.forest(tools, Teller()),
    }
    return resnet18(tools) if name == "resnet18" else searched(name, makers[name](), tools, seconds)


def _table(rows: list[Row]) -> None:
    print(f"\nonnxruntime {onnxruntime.__version__}, {len(os.sched_getaffinity(0))} cores, in turns, one thread\n")
    print("| model | by | smaller | faster, 1 row | faster, 32 rows | quality | search |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        found, quality, goal = row.found, row.found.quality, GOALS[row.name]
        ratios = zip((found.size_ratio, found.one.ratio, found.many.ratio), goal, strict=False)
        cells = [f"{1 / share:.1f}x{'' if 1 / share >= least else f' (goal {least:g}x)'}" for share, least in ratios]
        lost = f"{quality.metric} {quality.parent:.4f} to {quality.value:.4f} on {quality.rows:,} rows; {row.note}"
        print(f"| {row.name} | {row.steps} | {' | '.join(cells)} | {lost} | {row.seconds:.0f} s |")


if __name__ == "__main__":
    main()
