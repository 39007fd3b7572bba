"""Pipelines of scikit-learn over columns of numbers, categories and texts, pushed as files: each column an input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mofang.base.domain.tensors import Array
from mofang.base.engines.base import warm_up
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.bench import Made

ROWS = 200
Open = Callable[[Any], Made]


def _table(seed: int, words: tuple[str, ...] = ("good service", "bad service", "fine", "slow reply")) -> Any:
    """Return rows of a number nobody reads, an age that may be missing, a city, a bill and a note."""
    random = np.random.default_rng(seed)
    table = np.empty((ROWS, 5), np.object_)
    table[:, 0] = np.arange(ROWS, dtype=float)
    table[:, 1] = np.where(random.random(ROWS) < 0.1, np.nan, random.normal(40, 10, ROWS).astype(np.float32))
    table[:, 2] = random.choice(["Bern", "Rome", "Oslo"], ROWS)
    table[:, 3] = random.normal(20, 5, ROWS).astype(np.float32)
    table[:, 4] = random.choice(words, ROWS)
    return table


def _fitted(model: Any, table: Any) -> Any:
    """Fit a pipeline by positions: not the first column, and not in their order."""
    parts = [
        ("words", TfidfVectorizer(), 4),
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [3, 1]),
        ("city", OneHotEncoder(handle_unknown="ignore"), [2]),
    ]
    leaves = [("bad" in note) or bill > 24 for note, bill in zip(table[:, 4], table[:, 3], strict=True)]
    target = table[:, 3].astype(float) if isinstance(model, Ridge) else np.where(leaves, "leaves", "stays")
    return make_pipeline(ColumnTransformer(parts), model).fit(table, target)


def _inputs(table: Any) -> dict[str, Array]:
    texts = {at: np.array([each.encode() for each in table[:, at]], np.object_) for at in (2, 4)}
    numbers = {at: table[:, at].astype(np.float32) for at in (1, 3)}
    return {f"column_{at}": values for at, values in (texts | numbers).items()}


@pytest.mark.parametrize("model", [LogisticRegression(), RandomForestClassifier(20, max_depth=4, random_state=0)])
def test_each_column_that_is_read_is_an_input_of_its_kind(pushed: Open, tmp_path: Path, model: Any) -> None:
    pipeline = _fitted(model, _table(0))
    made = pushed(pipeline)
    assert (made.engine, made.why_native, made.labels) == ("onnx", "", ("leaves", "stays"))
    assert made.proof["trials"] == (
        "in batches of 1", "in batches of 256", "with missing values (NaN)", "with texts never seen",
    )  # fmt: skip
    engine = load_engine("onnx", tmp_path / "artifact")
    assert [str(spec) for spec in engine.signature.inputs] == [
        "column_1: [n] FP32", "column_2: [n] BYTES", "column_3: [n] FP32", "column_4: [n] BYTES",
    ]  # fmt: skip
    warm_up(engine)
    asked = _table(1)
    asked[0, 2] = "Paris"
    found = engine.infer(_inputs(asked))
    assert found["probabilities"] == pytest.approx(pipeline.predict_proba(asked), abs=1e-5)
    assert [label.decode() for label in found["label"]] == pipeline.predict(asked).tolist()


def test_a_number_is_told_of_columns(pushed: Open, tmp_path: Path) -> None:
    pipeline = _fitted(Ridge(), _table(0))
    assert pushed(pipeline).engine == "onnx"
    found = load_engine("onnx", tmp_path / "artifact").infer(_inputs(_table(1)))
    assert found["value"] == pytest.approx(pipeline.predict(_table(1)), abs=1e-3)


def test_what_the_graph_would_answer_otherwise_is_served_by_scikit_learn(pushed: Open, tmp_path: Path) -> None:
    words = ("élan vital", "naïve café", "bad service", "fine")  # the graph makes no accented letter small
    pipeline = _fitted(LogisticRegression(), _table(0, words))
    made = pushed(pipeline)
    assert made.engine == "sklearn"
    assert "rows differently" in made.why_native
    engine = load_engine("sklearn", tmp_path / "artifact")
    warm_up(engine)
    asked = _table(1, ("ÉLAN Café", *words))
    assert engine.infer(_inputs(asked))["probabilities"] == pytest.approx(pipeline.predict_proba(asked), abs=1e-6)


def test_columns_of_a_data_frame_keep_their_names(pushed: Open, tmp_path: Path) -> None:
    pipeline = _fitted(LogisticRegression(), _table(0))
    first = pipeline[0]  # as scikit-learn leaves one that was fitted on a data frame of these columns
    names = ["id", "age", "city", "monthly bill", "note"]
    first.feature_names_in_ = np.array(names, np.object_)
    named = {"words": "note", "numbers": ["monthly bill", "age"], "city": ["city"]}
    first.transformers_ = [(name, step, named.get(name, columns)) for name, step, columns in first.transformers_]
    assert pushed(pipeline).engine == "onnx"
    engine = load_engine("onnx", tmp_path / "artifact")
    assert [spec.name for spec in engine.signature.inputs] == ["age", "city", "monthly bill", "note"]
    asked = _table(1)
    inputs = {names[int(name[-1])]: values for name, values in _inputs(asked).items()}
    expected = _fitted(LogisticRegression(), _table(0)).predict_proba(asked)
    assert engine.infer(inputs)["probabilities"] == pytest.approx(expected, abs=1e-5)
