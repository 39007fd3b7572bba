"""What the example recipes reach, and in what time; and what the training loop costs.

    python benchmarks/train [NAME...] [--threads N]
    python benchmarks/train --quotes
    python benchmarks/train --loop

Each recipe goes its whole way: prepare, train, convert with a proof, evaluate on held-out rows through the engine that
serves it. A recipe whose data is not on this machine is named and passed over. Times are of training alone.
``--quotes`` asks for a quote of every example that trains within seconds, trains it, and prints by how much it was off.
``--loop`` measures the training loop beside the same steps written by hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from mofang.base.domain.errors import DatasetUnavailable, ExtraMissing, GateFailed, ModelNotFound
from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.base.storage.database import Database
from mofang.make.compress.store import VariantStore
from mofang.make.evaluate.store import EvaluationStore
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.store import DatasetStore
from mofang.make.register.store import Registry
from mofang.make.train.store import RunStore, TrainingRun
from mofang.make.workshop import Workshop

EXAMPLES = Path(__file__).parents[2] / "examples"


class Goal(NamedTuple):
    """What a recipe is to reach, in how many seconds on two idle cores (0: any)."""

    metric: str
    value: float
    seconds: float = 0
    is_least: bool = False  # the metric is to be at most the value

    def is_reached(self, value: float, seconds: float) -> bool:
        """Tell whether quality and time are as they should be."""
        good = value <= self.value if self.is_least else value >= self.value
        return good and (not self.seconds or seconds <= self.seconds)


GOALS = {
    "letter": Goal("accuracy", 0.965),
    "satellite": Goal("accuracy", 0.91),
    "flights": Goal("rmse", 17.99, is_least=True),  # scikit-learn's HistGradientBoosting, by its defaults
    "brown": Goal("accuracy", 0.28),
    "genre-stream": Goal("accuracy", 0.32),
    "fashion-quick": Goal("accuracy", 0.89, 60),
    "fashion-resnet": Goal("accuracy", 0.93, 12 * 60),
    "fashion-best": Goal("accuracy", 0.94, 45 * 60),
}


class Teller:
    """A Progress that prints what is new in one line."""

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Print it."""
        print(f"\r  {stage:<9} {fraction:4.0%}  {message:<70}", end="", flush=True)


def workshop(folder: Path) -> Workshop:
    """Make a workshop that is thrown away."""
    database = Database(f"sqlite:///{folder / 'mofang.db'}")
    database.migrate()
    blobs = DiskBlobs(folder / "blobs")
    return Workshop(
        blobs, DatasetStore(database), RunStore(database), EvaluationStore(database), VariantStore(database),
        Registry(database, blobs), folder / "scratch",
    )  # fmt: skip


def follow(name: str, tools: Workshop) -> tuple[TrainingRun, float] | str:
    """Run a recipe; return its run and the metric of its goal, or why there is none."""
    text = (EXAMPLES / f"{name}.toml").read_text("utf-8")
    try:
        JOB_KINDS["train"]({"recipe": text, "filename": f"{name}.toml"}, tools, Teller())
    except GateFailed:
        pass  # the figures tell
    except (DatasetUnavailable, ExtraMissing) as error:
        return error.message
    (run,) = tools.runs.list(limit=1)
    return run, tools.evaluations.get(run.evaluation).report.metrics[GOALS[name].metric]


def measure_quotes() -> None:
    """Print how far the quotes of the quick examples are from what came."""
    errors = []
    for path in sorted(EXAMPLES.glob("*.toml")):
        text = path.read_text("utf-8")
        if "[train]" not in text or (path.stem in GOALS and GOALS[path.stem].seconds) or "[search]" in text:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tools = workshop(Path(folder))
            job = {"recipe": text, "filename": path.name}
            try:
                JOB_KINDS["quote"](job, tools, Silent())
                JOB_KINDS["train"](job, tools, Silent())
            except GateFailed:
                pass
            except (DatasetUnavailable, ExtraMissing, ModelNotFound) as error:  # head and lora want a base
                print(f"{path.stem:<16} not run: {error.message}")
                continue
            (run,) = tools.runs.list(limit=1)
        quoted, took = run.estimate["seconds"], run.estimate["actual_seconds"]
        memory = run.estimate["memory_bytes"] / run.estimate["actual_memory_bytes"] - 1
        errors.append(abs(quoted / took - 1))
        print(
            f"{path.stem:<16} quoted {quoted:8.3f} s, took {took:8.3f} s ({quoted / took - 1:+.0%});"
            f" memory {memory:+.0%}"
        )
    print(f"median error of the time: {statistics.median(errors):.0%} over {len(errors)} recipes (goal: 25 %)")


def main() -> None:
    """Print a line for each recipe."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", metavar="NAME", help="recipes: " + ", ".join(GOALS))
    options.add_argument("--quotes", action="store_true", help="measure quotes instead")
    options.add_argument("--loop", action="store_true", help="measure the loop instead")
    options.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: as many as there are cores")
    chosen = options.parse_args()
    if chosen.threads:
        os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
    if chosen.quotes:
        measure_quotes()
        return
    if chosen.loop:
        from loop import measure

        measure(rounds=12)
        return
    for name in chosen.names or GOALS:
        with tempfile.TemporaryDirectory() as folder:
            found = follow(name, workshop(Path(folder)))
        goal = GOALS[name]
        if isinstance(found, str):
            print(f"\r{name:<16} not run: {found}")
            continue
        run, value = found
        load, word = os.getloadavg()[1], "reached" if goal.is_reached(value, run.seconds) else "MISSED"
        aside = run.curve[-1].get(goal.metric)  # what training itself said, of the rows it kept aside
        told = f" (validation {aside:.4f})" if aside is not None else ""
        timed = f" (goal {goal.seconds:.0f} on two idle cores)" if goal.seconds else ""
        print(
            f"\r{name:<16} {goal.metric} {value:.4f} (goal {goal.value:g}){told}"
            f"   {run.seconds:6.0f} s of training{timed}   {word}, load {load:.1f} {'':<20}"
        )


if __name__ == "__main__":
    main()
