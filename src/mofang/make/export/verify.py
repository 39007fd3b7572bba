"""Whether what goes out answers as what is served: its own code is run, and held against the engine.

Only what was made here is loaded. The code runs in a process of its own, as its receiver will run it.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mofang.base.domain.errors import ExportFailed
from mofang.base.domain.tensors import NUMPY, Array
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.convert.parity import Trial, compare
from mofang.make.convert.probes import tensor_trials
from mofang.make.export.folder import request
from mofang.make.export.source import Source, Written
from mofang.make.prepare.feed import feed

_ROWS = 64
_LONGEST_SECONDS = 600.0
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an export is known to answer alike: rows that were asked, and by how much answers differed at most."""

    said: str
    rows: int = 0
    max_difference: float = 0.0


def trials_of(source: Source, written: Written) -> list[Trial]:
    """Return what both are asked: held-out rows, or made-up ones if there are none; many at once, and one alone."""
    if source.test is None:
        most = tensor_trials(written.signature.inputs)
        return [most[-1], most[0]] if len(most) > 1 else most
    test, signature = source.test, source.version.artifact.signature
    trials = []
    for rows in (min(_ROWS, len(test.features)), 1):
        index = np.arange(rows)
        some = replace(test, features=test.features[index], target=test.target[index])
        asked = feed(some, signature)
        given = {"features": some.rows()} if written.prepared else asked
        trials.append(Trial("at once", given, asked=asked))
    return trials


def verify(folder: Path, written: Written, trials: list[Trial], engine: Engine, progress: Progress) -> Verdict:
    """Ask the code in ``folder`` and ``engine`` the same; raise ParityFailed or ExportFailed."""
    found = _run(written.python, folder, [trial.inputs for trial in trials])
    outcome = compare(
        lambda asked: dict(engine.infer(asked)), lambda _: next(found), trials, progress, tolerance=_TOLERANCE
    )
    rows = sum(len(next(iter(trial.inputs.values()))) for trial in trials)
    difference = outcome.max_difference
    said = f"Its code was run on {rows} rows and answered as the served model, largest difference {difference:.1e}."
    return Verdict(said, rows, difference)


def _run(python: Path, folder: Path, asked: Sequence[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    """Run ``predict.py`` on all requests at once, as people would; yield its answers."""
    paths = [folder.parent / f"request-{number}.json" for number in range(len(asked))]
    for path, inputs in zip(paths, asked, strict=True):
        path.write_text(json.dumps(request(inputs)), "utf-8")
    command = [str(python), "-W", "ignore", "predict.py", *map(str, paths)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ExportFailed(f"its code did not answer within {_LONGEST_SECONDS:.0f} s") from error
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != len(asked):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExportFailed(f"its code ended with status {done.returncode}: {last[:300]}")
    for line in lines:
        yield {each["name"]: _array(each) for each in json.loads(line)["outputs"]}


def _array(tensor: Mapping[str, Any]) -> Array:
    data: list[Any] = [np.nan if each is None else each for each in tensor["data"]]
    if tensor["datatype"] == "BYTES":
        data = [each.encode() for each in data]
    return np.array(data, NUMPY[tensor["datatype"]]).reshape(tensor["shape"])
