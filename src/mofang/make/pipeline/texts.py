"""A language model in a GGUF file, to be compressed: the texts it is measured on, and who reads and who times it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from mofang.base.domain.errors import NoVariant
from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Scoring
from mofang.make.compress.bits import narrower
from mofang.make.compress.language import Read, speaking
from mofang.make.compress.pick import Wish
from mofang.make.compress.propose import Can
from mofang.make.compress.sample import read_texts
from mofang.make.compress.search import Budget, Original, Search
from mofang.make.compress.seldom import Seldom
from mofang.make.compress.streams import streams
from mofang.make.compress.subject import Means, Subject
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.language import Encoding, Text, evaluate_language, texts_of, whole
from mofang.make.evaluate.report import Report
from mofang.make.pipeline.material import Order
from mofang.make.prepare.dataset import Examples, load_examples
from mofang.make.workshop import Workshop


class Texts:
    """A language model, and a dataset of texts or a file of them."""

    packages = ("gguf", "openvino-genai", "xllamacpp")

    def __init__(self, version: ModelVersion, order: Order, tools: Workshop) -> None:
        """Find the texts. Raises NoVariant if there are none, Invalid if a file is no text."""
        self._version, self._order, self._tools = version, order, tools
        self._engine = version.artifact.engine
        self.dataset = "" if order.calibration else order.dataset or version.lineage.dataset
        self._given: list[str] = []
        if order.teacher:
            raise NoVariant(
                f"{version} is a language model, which learns from no teacher", hint="leave out the teacher"
            )
        if order.calibration:
            self._given = read_texts(tools.blobs.read(order.calibration), order.filename)
        elif not self.dataset:
            raise NoVariant(
                f"{version} was pushed, and nobody knows what it is asked: there is no text to measure its variants on",
                hint="give texts, `--calibration FILE.txt` with an empty line between two of them, or a dataset of"
                " texts, `--dataset DIGEST`",
            )

    @contextmanager
    def searching(self, wish: Wish, folder: Path, progress: Progress) -> Iterator[Search]:
        """Have the original read the texts, then set it up to be timed, and lay out a search in ``folder``."""
        tools, order = self._tools, self._order
        original = tools.registry.folder(self._version, tools.scratch / "original")
        steps = tools.scratch / "steps"
        steps.mkdir(parents=True, exist_ok=True)
        subject = Subject(original, self._engine)
        means = Means(subject, lambda: Path(mkdtemp(dir=steps)), progress=Seldom(progress))
        can = Can(graph=False, widths=narrower(original))
        progress.report("search", 0.0, f"asking {self._version} as it is")
        examiner = Read(self._engine, original, self._read, order.metric, progress)
        budget = Budget(order.seconds, order.trials, tools.timing_seconds / 3)
        with streams(self._engine, original, examiner.texts) as grounds:
            about = Original(self._engine, self._version.artifact.size_bytes, can)
            yield Search(about, means, examiner, grounds, wish, budget, folder)

    def settings(self, folder: Path, wish: Wish, progress: Progress) -> Mapping[str, Any]:
        """Nothing: engines of language models batch by themselves, and take all cores."""
        del folder, wish, progress
        return {}

    def report(self, folder: Path, progress: Progress) -> Report | None:
        """Evaluate the variant in ``folder`` on the dataset, if the engine can."""
        if not self.dataset:
            return None
        with speaking(self._engine, folder) as engine:
            if not isinstance(engine, Scoring):
                return None
            return evaluate_language(engine, self._examples(), parse_gate(""), progress, self._engine)

    def _read(self, engine: Encoding) -> Sequence[Text]:
        return [whole(engine, text) for text in self._given] if self._given else texts_of(engine, self._examples())

    def _examples(self) -> Examples:
        return load_examples(self._tools.blobs, self._tools.datasets.get(self.dataset), split="test")
