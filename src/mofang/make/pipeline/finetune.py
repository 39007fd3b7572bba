"""A training job that goes on from a language model: prepare, train an adapter, merge, write, evaluate, register."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.registry import Artifact
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Scoring
from mofang.make.convert.catalog import language_writer
from mofang.make.convert.language.parity import prove
from mofang.make.evaluate import language
from mofang.make.evaluate.gate import parse_gate
from mofang.make.pipeline.base import FOLDERS, Base, base_of
from mofang.make.pipeline.outcome import Result
from mofang.make.pipeline.prepare import prepared
from mofang.make.pipeline.run import Record, check_task, finish, trained
from mofang.make.prepare.dataset import Dataset, Examples, load_examples
from mofang.make.prepare.tokens import Passage, Reader
from mofang.make.recipe import Lora, Recipe
from mofang.make.train.catalog import searcher, tuner
from mofang.make.workshop import Workshop

_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""What a Hugging Face folder has of its tokenizer, which training leaves as it is."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Both splits as the base model reads them, and how likely it finds the held-out one."""

    known: dict[tuple[int, ...], Passage | None]
    test: list[Passage]
    before: language.Base

    def read(self, examples: Examples) -> list[Passage | None]:
        """Return the passages of training rows."""
        return [self.known[tuple(row)] for row in examples.features.astype(int).tolist()]


def finetune(recipe: Recipe, record: Record, tools: Workshop, progress: Progress) -> Result:
    """Make a version as ``recipe`` says. Raises what the stages raise."""
    assert isinstance(recipe.train, Lora)
    tune, to_gguf = tuner(), language_writer()  # before any data is touched
    search = searcher() if recipe.search.space else None
    gate = parse_gate(recipe.evaluate.gate)
    gate.check_language(choices=False)
    with base_of(recipe.train.base, tools) as base, tools.folder() as folder:
        dataset = prepared(recipe.prepare, tools, progress)
        record.note(dataset=dataset.digest)
        check_task(recipe, dataset)
        texts = read_texts(recipe.train, base, dataset, tools, progress)
        tuned = tune(base.folder, texts.read, tools.checkpoint)
        examples = load_examples(tools.blobs, dataset)
        found = trained(recipe, tuned.train, search, examples, record, tools, progress)

        merged = tuned.merged(found.pipeline)
        if base.engine == FOLDERS:
            _write_folder(merged, base.folder, folder)
        else:
            to_gguf(merged, base.folder, folder)
        rows = [each.tokens for each in texts.test]
        proof = prove(base.scorer, folder, partial(tuned.score, merged), rows, progress)
        del merged, tuned
        artifact = Artifact(base.engine, tools.keep(folder), TEXT_SIGNATURE)
        record.note(artifact=artifact.digest, conversion=asdict(proof))
        with scoring(base, folder, tools) as engine:
            report, _ = language.evaluate_passages(engine, texts.test, gate, progress, texts.before)
        return finish(recipe, record, artifact, report, tools, progress, parent=base.version.digest)


def read_texts(spec: Lora, base: Base, dataset: Dataset, tools: Workshop, progress: Progress) -> Texts:
    """Read both splits with the engine that serves the base model, and measure it on the held-out one."""
    train, test = (load_examples(tools.blobs, dataset, split=split) for split in ("train", "test"))
    with scoring(base, base.folder, tools) as engine:
        reader = Reader(engine, spec.tokens)
        passages = [each for each in reader.passages(test) if each]
        rows = map(tuple, train.features.astype(int).tolist())
        known = dict(zip(rows, reader.passages(train), strict=True))
        progress.report("train", 0.0, "measuring the model as it is")
        _, told = language.evaluate_passages(engine, passages, parse_gate(""), progress)
    return Texts(known, passages, language.Base(str(base.version), told))


@contextmanager
def scoring(base: Base, folder: Path, tools: Workshop) -> Iterator[Any]:
    """Load a language model, as it is usually deployed, to read texts with it and tell how likely they are."""
    with tools.generator(base.scorer, folder) as engine:
        if not isinstance(engine, Scoring):
            raise InvalidModel(f"engine {base.scorer!r} does not tell how likely a given text is")
        yield engine


def _write_folder(model: Any, base: Path, folder: Path) -> None:
    model.save_pretrained(folder)
    for name in _BESIDE:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
