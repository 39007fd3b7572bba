"""What vectors of texts are worth: whether a text's nearest neighbours are of its own label.

Called by the pipeline for versions that answer ``embedding``. Held-out texts are looked up, by cosine, among training
texts of the same dataset, through the engine that serves the version. It needs labels and no pairs of questions and
answers, so any dataset of labelled texts will do.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import InvalidDataset
from mofang.base.domain.work import Progress
from mofang.base.engines.base import Engine
from mofang.make.evaluate.gate import Gate
from mofang.make.evaluate.report import Report, RetrievalScores
from mofang.make.prepare.dataset import Examples, Target
from mofang.make.prepare.encode import strings

EMBEDDING = "embedding"
_MOST_ROWS, _MOST_POOL = 2_000, 10_000
_BATCH = 64
_SEED = 0


def evaluate_embeddings(engine: Engine, train: Examples, test: Examples, gate: Gate, progress: Progress) -> Report:
    """Look held-out texts up among training texts. Raises InvalidDataset for data that are no labelled texts."""
    column = _text_column(test)
    begun = time.perf_counter()
    asked, pool = _some(test, _MOST_ROWS), _some(train, _MOST_POOL)
    vectors = []
    for name, examples, index, share in (("pool", train, pool, 0.0), ("texts", test, asked, 0.8)):
        texts = strings(test.schema.columns[column], np.asarray(examples.features[index, column]), examples.texts)
        vectors.append(_embedded(engine, texts, name, share, progress))
    ranks = first_ranks(vectors[1], test.target[asked], vectors[0], train.target[pool])
    at_1, at_5, at_10 = (float((ranks <= most).mean()) for most in (1, 5, 10))
    scores = RetrievalScores(len(asked), len(pool), at_1, at_5, at_10, float((1 / ranks).mean()))
    seconds = time.perf_counter() - begun
    progress.report("evaluate", 1.0, scores.headline, **scores.metrics)
    return Report(scores, seconds, gate.text, gate.failures(scores))


def first_ranks(
    asked: NDArray[np.float32], labels: Target, pool: NDArray[np.float32], known: Target
) -> NDArray[np.float64]:
    """Return for each vector of ``asked`` [n, d] the rank of the nearest of ``pool`` [m, d] of its label; inf: none."""
    ranks = np.full(len(asked), np.inf)
    unit = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (asked, pool)]
    for row, vector in enumerate(unit[0]):
        order = np.argsort(-(unit[1] @ vector), kind="stable")
        (found,) = np.nonzero(known[order] == labels[row])
        if len(found):
            ranks[row] = found[0] + 1
    return ranks


def _text_column(test: Examples) -> int:
    columns = [index for index, column in enumerate(test.schema.columns) if column.kind == "text"]
    if len(columns) != 1 or not test.schema.labels:
        raise InvalidDataset(
            f"vectors are measured on labelled texts; this data has {len(columns)} columns of texts"
            f" and {len(test.schema.labels)} labels",
            hint="name a dataset of one text column and classes: `--dataset DIGEST`",
        )
    return columns[0]


def _some(examples: Examples, most: int) -> NDArray[np.int64]:
    count = len(examples.target)
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SEED).choice(count, most, replace=False))


def _embedded(engine: Engine, texts: list[str], name: str, share: float, progress: Progress) -> NDArray[np.float32]:
    given, found = engine.signature.inputs[0].name, []
    for start in range(0, len(texts), _BATCH):
        part = np.array([text.encode() for text in texts[start : start + _BATCH]], np.object_)
        found.append(np.asarray(engine.infer({given: part})[EMBEDDING], np.float32))
        done = share + (0.8 if name == "pool" else 0.2) * min(start + _BATCH, len(texts)) / len(texts)
        progress.report("evaluate", min(done, 1.0), f"{name}: {min(start + _BATCH, len(texts)):,} of {len(texts):,}")
    return np.concatenate(found)
