"""The search: make what is proposed, examine it, time it beside the original, until nothing is left or time is up.

Every candidate that was measured is written down at once, with its files, so that a search whose process is killed goes
on with the next. It knows no store: what it found, the pipeline registers.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mofang.base.domain.errors import (
    EngineFailed,
    EngineLoadFailed,
    ExtraMissing,
    NoVariant,
    TrainingFailed,
    UpstreamFailed,
)
from mofang.base.domain.work import Progress
from mofang.make.compress.arena import Grounds
from mofang.make.compress.catalog import apply, written
from mofang.make.compress.compare import Comparison
from mofang.make.compress.exam import Examiner
from mofang.make.compress.pick import Wish, costs, front, points
from mofang.make.compress.propose import Can, Tried, measured, propose
from mofang.make.compress.seldom import Limited, Seldom
from mofang.make.compress.step import Steps, fingerprint
from mofang.make.compress.subject import Means, Subject

_REFUSALS = (NoVariant, ExtraMissing, EngineFailed, EngineLoadFailed, TrainingFailed, UpstreamFailed)
"""What means that one candidate is none; everything else ends the search."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after so many seconds or candidates (0: never), whichever is first; and how long each is timed."""

    seconds: float = 600.0
    trials: int = 0
    timing_seconds: float = 0.5  # of each batch and number of threads


@dataclass(frozen=True, slots=True)
class Original:
    """The version as it is: its engine's name and its size, and what it can be made into."""

    engine: str
    size_bytes: int
    can: Can


class Record(msgspec.Struct):
    """What outlives the process: candidates so far, and the seconds they took."""

    tried: list[Tried] = []
    seconds: float = 0.0


class Search:
    """One search in ``folder``, which has what an earlier process of the same search left there."""

    def __init__(
        self,
        original: Original,
        means: Means,
        examiner: Examiner,
        grounds: Grounds,
        wish: Wish,
        budget: Budget,
        folder: Path,
    ) -> None:
        self._original, self._examiner, self._grounds = original, examiner, grounds
        self._limited = Limited(means.progress)
        self._means = replace(means, progress=self._limited)
        self._wish, self._budget, self._folder = wish, budget, folder
        self._subjects: dict[Steps, Subject] = {(): means.original}
        self._notes = folder / "search.json"
        self._record = _read(self._notes)

    @property
    def tried(self) -> Sequence[Tried]:
        """All candidates so far, in the order they were tried."""
        return self._record.tried

    def run(self, progress: Progress) -> Sequence[Tried]:
        """Try one proposal after the other; return all. Raises JobCancelled from ``progress``."""
        while (steps := propose(self._original.can, self.tried, self._wish)) is not None and not self._is_over():
            begun = time.monotonic()
            if self._budget.seconds:
                self._limited.until = begun + self._budget.seconds - self._record.seconds
            tried = self._try(steps, Seldom(progress))
            self._record.tried.append(tried)
            self._record.seconds += time.monotonic() - begun
            _write(self._notes, self._record)
            self._tell(progress)
        return self.tried

    def folder(self, steps: Steps) -> Path:
        """Return where the files of a measured candidate are."""
        return self._folder / "made" / fingerprint(steps)

    def again(self, steps: Steps, seconds: float, progress: Progress) -> Comparison:
        """Time a measured candidate once more, for longer; return the comparison with the new times."""
        found = next(each.comparison for each in self.tried if each.steps == steps)
        latencies, memory, parent_memory = self._grounds.time(self.folder(steps), seconds, progress)
        return replace(found, latencies=latencies, memory_bytes=memory, parent_memory_bytes=parent_memory)

    def _is_over(self) -> bool:
        budget = self._budget
        late = bool(budget.seconds) and self._record.seconds >= budget.seconds
        return late or (bool(budget.trials) and len(self.tried) >= budget.trials)

    def _try(self, steps: Steps, progress: Progress) -> Tried:
        try:
            return Tried(steps, self._measure(steps, progress))
        except _REFUSALS as error:
            return Tried(steps, None, error.message)

    def _measure(self, steps: Steps, progress: Progress) -> Comparison:
        folder = self._files(steps)
        quality = self._examiner.judge(folder, progress)
        latencies, memory, parent_memory = self._grounds.time(folder, self._budget.timing_seconds, progress)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Comparison(quality, size, self._original.size_bytes, memory, parent_memory, latencies)

    def _files(self, steps: Steps) -> Path:
        """Make the candidate and keep its files."""
        subject = written(self._subject(steps), self._means)
        assert subject.folder is not None
        if subject.engine != self._original.engine:
            raise NoVariant(f"it is for the engine {subject.engine!r}, the original for {self._original.engine!r}")
        target = self.folder(steps)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(subject.folder, target)
        return target

    def _subject(self, steps: Steps) -> Subject:
        """Take the last step after those before it, each sequence once: what was trained is not trained again."""
        if steps not in self._subjects:
            self._subjects[steps] = apply(steps[-1], self._subject(steps[:-1]), self._means)
        return self._subjects[steps]

    def _tell(self, progress: Progress) -> None:
        """Tell what the last candidate came to, and the front as it is now."""
        last, candidates = self.tried[-1], measured(self.tried)
        best = [candidates[at] for at in front([each.comparison for each in candidates])]
        shares = [self._record.seconds / self._budget.seconds if self._budget.seconds else 0.0]
        shares.append(len(self.tried) / self._budget.trials if self._budget.trials else 0.0)
        said = f"{len(self.tried)}: {_drawn(last)}; {len(best)} on the front"
        drawn = "\n".join(map(_drawn, best))
        progress.report("search", min(max(shares), 1.0), said, tried=len(self.tried), front=drawn)


def _drawn(tried: Tried) -> str:
    """Tell one candidate in one line: what a terminal shows while the front grows."""
    if tried.found is None:
        return f"{tried}: {tried.refusal}"
    drop, latency, _, size = costs(tried.found)
    return f"{tried}: {points(drop)} points, {1 / latency:.1f}x as fast, {1 / size:.1f}x smaller"


def _read(path: Path) -> Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.MsgspecError):  # of another release, or none: the search begins anew
        return Record()


def _write(path: Path, record: Record) -> None:
    """Replace the record, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(record))
    os.replace(new, path)
