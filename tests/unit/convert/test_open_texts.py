"""Pipelines of scikit-learn that count words, pushed as files: proven as ONNX, or served by scikit-learn itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from mofang.base.domain.errors import EngineFailed
from mofang.base.domain.tensors import TensorSpec
from mofang.base.engines.base import warm_up
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.bench import Made

TEXTS = [
    "The cat sat on the mat", "Dogs bark at cats", "Rain falls in spring", "It's raining, again!", "CATS and dogs",
    "snow_fall in 2020", "spring mat", "a dog again",
] * 4  # fmt: skip
ACCENTS = [*TEXTS, "Élan vital et café", "naïve café owners"] * 2
ASKED = ["The CAT sat; again", "", "Dogs   in\nspring", "unknown words only"]
Open = Callable[[Any], Made]


def _fitted(counter: Any, model: Any, texts: list[str]) -> Any:
    kinds = [("calm", "wild")[row % 3 == 0] for row in range(len(texts))]
    target = np.arange(len(texts)) / 7 if isinstance(model, Ridge) else kinds
    return make_pipeline(counter, model).fit(texts, target)


@pytest.mark.parametrize(
    "counter",
    [TfidfVectorizer(), TfidfVectorizer(ngram_range=(1, 2)), CountVectorizer(lowercase=False)],
)
def test_words_of_ascii_are_proven_as_onnx(pushed: Open, tmp_path: Path, counter: Any) -> None:
    pipeline = _fitted(counter, LogisticRegression(), TEXTS)
    made = pushed(pipeline)
    assert (made.engine, made.labels, made.proof["passed"]) == ("onnx", ("calm", "wild"), True)
    assert made.proof["rows"] > 300
    engine = load_engine("onnx", tmp_path / "artifact")
    assert engine.signature.inputs == (TensorSpec("text", "BYTES", (-1,)),)
    warm_up(engine)
    found = engine.infer({"text": np.array([text.encode() for text in ASKED], np.object_)})
    assert found["probabilities"] == pytest.approx(pipeline.predict_proba(ASKED), abs=1e-5)
    assert [label.decode() for label in found["label"]] == pipeline.predict(ASKED).tolist()


@pytest.mark.parametrize(
    ("counter", "why"),
    [
        (TfidfVectorizer(), "answers .* rows differently"),  # the graph makes no accented letter small
        (TfidfVectorizer(sublinear_tf=True, lowercase=False), "answers .* rows differently"),  # converted wrongly
        (CountVectorizer(token_pattern=r"\S+"), r"words are split by '.{2}S\+'"),
        (TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3)), "cannot be converted"),
    ],
)
def test_what_the_graph_would_answer_otherwise_is_served_by_scikit_learn(
    pushed: Open, tmp_path: Path, counter: Any, why: str
) -> None:
    pipeline = _fitted(counter, LogisticRegression(), ACCENTS)
    made = pushed(pipeline)
    assert made.engine == "sklearn"
    assert re.search(why, made.why_native)
    engine = load_engine("sklearn", tmp_path / "artifact")
    asked = [*ASKED, "ÉLAN CAFÉ"]
    warm_up(engine)
    found = engine.infer({"text": np.array([text.encode() for text in asked], np.object_)})
    assert found["probabilities"] == pytest.approx(pipeline.predict_proba(asked), abs=1e-6)
    with pytest.raises(EngineFailed, match="no UTF-8"):
        engine.infer({"text": np.array([b"\xff"], np.object_)})


def test_a_number_is_told_of_texts(pushed: Open, tmp_path: Path) -> None:
    pipeline = _fitted(TfidfVectorizer(), Ridge(), TEXTS)
    assert pushed(pipeline).engine == "onnx"
    engine = load_engine("onnx", tmp_path / "artifact")
    found = engine.infer({"text": np.array([text.encode() for text in ASKED], np.object_)})
    assert found["value"] == pytest.approx(pipeline.predict(ASKED), abs=1e-4)
