"""A version that takes rows, to be compressed: its data, who examines and who times its variants, who teaches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.base.engines.upstreams import look_up
from mofang.make.compress.arena import arena
from mofang.make.compress.catalog import abilities
from mofang.make.compress.endpoint import UPSTREAM, Endpoint
from mofang.make.compress.exam import Examined
from mofang.make.compress.outside import ends, look, pupils
from mofang.make.compress.pick import Wish
from mofang.make.compress.propose import Can, epochs
from mofang.make.compress.search import Budget, Original, Search
from mofang.make.compress.seldom import Seldom
from mofang.make.compress.subject import Means, Subject
from mofang.make.compress.tuning import best, measure, told
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.report import Report
from mofang.make.evaluate.suite import evaluate
from mofang.make.pipeline.material import Order, material
from mofang.make.prepare.feed import feed
from mofang.make.prepare.onnx import IMAGE
from mofang.make.workshop import Workshop

_TUNING_TIMES = 4  # as long as a batch is timed, the pick is tuned
_ANSWER_MS = 50.0  # within which a request is to be answered, where nobody says


class Rows:
    """A graph, the data it was made from or a sample, and the network it was exported from, if that is known."""

    packages = ("onnx", "onnxruntime", "torch")

    def __init__(self, version: ModelVersion, order: Order, tools: Workshop) -> None:
        """Find the data of ``version``. Raises NoVariant if there is none."""
        self._version, self._order, self._tools = version, order, tools
        self._data = material(version, order, tools)
        self.dataset = self._data.dataset.digest if self._data.dataset else ""

    @contextmanager
    def searching(self, wish: Wish, folder: Path, progress: Progress) -> Iterator[Search]:
        """Load the original, on its own and in the arena, and lay out a search in ``folder``."""
        order, data, artifact = self._order, self._data, self._version.artifact
        original = self._tools.registry.folder(self._version, self._tools.scratch / "original")
        means = self._means(original, progress)
        grounds = arena("onnx", original, data.exam.rows, batchable=artifact.signature.batchable)
        with self._tools.engine("onnx", original) as engine, grounds as grounded:
            can = replace(abilities(means), teacher=order.teacher)
            if not (self._version.lineage.run or can.network or can.students):
                can, means = self._taught_from_outside(can, means, engine, progress)
            if order.teacher:
                self._check_teacher(can, means, progress)
            progress.report("search", 0.0, f"asking {self._version} as it is")
            examined = Examined(data.exam, "onnx", engine, progress)
            budget = Budget(order.seconds, order.trials, self._tools.timing_seconds / 3)
            about = Original("onnx", artifact.size_bytes, can)
            yield Search(about, means, examined, grounded, wish, budget, folder)

    def settings(self, folder: Path, wish: Wish, progress: Progress) -> Mapping[str, Any]:
        """Find by measuring how the pick runs best on this machine, while a request is answered within the limit."""
        row = {name: array[:1] for name, array in self._data.exam.rows.items()}
        goal_ms = wish.max_latency_ms or _ANSWER_MS
        seconds = _TUNING_TIMES * self._tools.timing_seconds
        batchable = self._version.artifact.signature.batchable
        found = measure("onnx", folder, row, goal_ms, seconds, progress, batchable=batchable)
        return told(best(found, goal_ms), "onnx")

    def report(self, folder: Path, progress: Progress) -> Report | None:
        """Evaluate the variant in ``folder``, where the truth is known."""
        exam = self._data.exam
        if not self.dataset or exam.truth is None:
            return None
        with self._tools.engine("onnx", folder) as engine:
            return evaluate(engine, exam.rows, exam.truth, exam.labels, parse_gate(""), progress)

    def _means(self, original: Path, progress: Progress) -> Means:
        data = self._data
        steps = self._tools.scratch / "steps"
        steps.mkdir(parents=True, exist_ok=True)
        return Means(
            original=Subject(original, "onnx", data.network, "torch" if data.network is not None else ""),
            scratch=lambda: Path(mkdtemp(dir=steps)),
            examples=data.examples,
            calibration=data.calibration,
            unseen=data.unseen,
            checkpoints=self._tools.scratch / "checkpoints",
            teacher=partial(_teacher, self._version, self._tools),
            image=[each.name for each in self._version.artifact.signature.inputs] == [IMAGE],
            progress=Seldom(progress),
        )

    def _taught_from_outside(self, can: Can, means: Means, engine: Engine, progress: Progress) -> tuple[Can, Means]:
        """Return both with students that learn what a pushed network answers; say why, if there are none."""
        signature, examples = self._version.artifact.signature, self._data.examples
        try:
            given, told = ends(signature)
            rows = feed(examples, signature) if examples is not None else self._data.calibration
            known = examples is not None and len(examples.schema.labels) == told.shape[-1]
            target = examples.target.astype(np.int64) if examples is not None and known else np.empty(0, np.int64)
            outside = look(signature, rows[given.name], target, engine)
            students = pupils(outside, self._version.artifact.size_bytes)
        except NoVariant as why:
            progress.report("search", 0.0, f"no student can take its place: {why.message}")
            return can, means
        return replace(can, students=students, epochs=epochs(len(outside.rows))), replace(means, outside=outside)

    def _check_teacher(self, can: Can, means: Means, progress: Progress) -> None:
        """Ask the teacher one row, so that a search does not fail late; raise NoVariant if nothing would learn."""
        examples, outside = means.examples, means.outside
        if (examples is None and outside is None) or not (can.network or can.students):
            raise NoVariant(
                "a teacher is asked for, and nothing here can learn from it",
                hint="networks that were trained here learn, and those in place of trees or of a pushed network",
            )
        progress.report("search", 0.0, f"asking the teacher {can.teacher}")
        assert means.teacher is not None
        with means.teacher(can.teacher) as teacher:
            if outside is not None:
                outside.ask(teacher, 1)
                return
            assert examples is not None
            first = replace(examples, features=examples.features[:1], target=examples.target[:1])
            teacher.infer(feed(first, teacher.signature))


@contextmanager
def _teacher(version: ModelVersion, tools: Workshop, name: str) -> Iterator[Engine]:
    """Open whom to learn from: ``upstream:SERVER/MODEL``, ``model@version``, or a number or alias of the same model."""
    if name.startswith(UPSTREAM):
        server, _, model = name.removeprefix(UPSTREAM).partition("/")
        if not model:
            raise NoVariant(f"the teacher {name!r} has no model", hint=f"write {UPSTREAM}SERVER/MODEL")
        place = look_up(tools.upstreams, server)
        with closing(Endpoint(place.base_url, place.key(), model)) as endpoint:
            yield endpoint
        return
    found = tools.registry.get(VersionRef.parse(name) if "@" in name else VersionRef(version.model, name))
    with tools.folder() as root:
        folder = tools.registry.folder(found, root)
        with tools.engine(found.artifact.engine, folder) as engine:
            yield engine
