"""No train/serve skew: the served graph makes of any row what numpy made of it in training."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.engines.onnx import OnnxEngine
from mofang.make.prepare.columns import Column
from mofang.make.prepare.dataset import Examples, Schema
from mofang.make.prepare.encode import fit
from mofang.make.prepare.feed import feed
from mofang.make.prepare.normalise import Scaling
from mofang.make.prepare.onnx import complete
from mofang.make.recipe import Encode

CATEGORIES = ("red", "dark green", "Größe", "features", "seen by none")
KNOWN = [
    "Hello World, it's me!", "hello  again world", "ÄÖ über World", "", "..", "x" * 50, "tab\tnew\nline hello world",
    "it's me again, it's me",
]  # fmt: skip
COLUMNS = (
    Column("x", "number"),
    Column("value", "category", values=CATEGORIES),  # called as the graph's output
    Column("prepare/0/Unsqueeze", "date"),
    Column("features", "text"),  # called as the model's own input
)
ENCODINGS = [
    Encode(categories="one_hot", text="words", vocabulary=40),
    Encode(categories="mean", text="characters", vocabulary=60),
    Encode(categories="one_hot", most=1, text="tokens", length=5, vocabulary=10),
]


def _echo(folder: Path, width: int) -> Signature:
    """Write a model that answers what it sees."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["features"], ["value"])],
        "echo",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", width])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), folder / "model.onnx"
    )
    return Signature(
        (TensorSpec("features", "FP32", (-1, width)),), (TensorSpec("value", "FP32", (-1, width)),)
    )  # fmt: skip


@pytest.fixture(scope="module", params=ENCODINGS, ids=lambda spec: f"{spec.categories}-{spec.text}")
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Schema, OnnxEngine]:
    random = np.random.default_rng(0)
    rows = np.stack(
        [random.normal(size=90), random.integers(0, 4, 90), random.integers(-9, 9, 90), random.integers(0, 8, 90)],
        axis=1,
    ).astype(np.float32)
    texts = {"features": KNOWN}
    columns = fit(COLUMNS, request.param, rows, np.ones(90, np.bool_), random.integers(0, 2, 90), texts)
    width = sum(column.width for column in columns)
    fill = tuple(float(column) for column in range(width)) if request.param.categories == "mean" else ()
    scaling = Scaling((0.5,) * width, tuple(1.0 + column for column in range(width)), fill)
    schema = Schema(width, "float32", ("a", "b"), columns=columns, scaling=scaling)
    folder = tmp_path_factory.mktemp("model")
    signature = complete(folder, _echo(folder, width), schema, image=False)
    engine = OnnxEngine(folder, {})
    assert engine.signature == signature
    assert [spec.name for spec in signature.inputs] == ["x", "value_", "prepare/0/Unsqueeze", "features"]
    return schema, engine


row = st.tuples(
    st.one_of(st.just(np.nan), st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([np.nan, 0, 1, 2, 3, 4]),
    st.one_of(st.just(np.nan), st.integers(-500_000, 3_000_000)),
    st.one_of(st.just(np.nan), st.integers(0, 19)),
)
words = st.text(st.one_of(st.sampled_from("aA zZ'.,-_Ä\t\n0"), st.characters(exclude_categories=["Cs"])), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=8), others=st.lists(words, min_size=12, max_size=12))
def test_the_graph_sees_what_training_saw(
    served: tuple[Schema, OnnxEngine], rows: list[tuple[float, ...]], others: list[str]
) -> None:
    schema, engine = served
    features = np.array(rows, np.float32)
    examples = Examples(features, np.zeros(len(rows), np.int64), schema, texts={"features": [*KNOWN, *others]})
    found = engine.infer(feed(examples, engine.signature))["value"]
    expected = examples.rows()
    assert found.shape == expected.shape
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nan_to_num(np.abs(found - expected)).max() < 1e-6
    if schema.scaling is not None and schema.scaling.fill:
        assert not np.isnan(found).any()


def test_what_no_row_ever_held_is_answered_too(served: tuple[Schema, OnnxEngine]) -> None:
    _, engine = served
    strange = {
        "x": np.array([np.inf, np.nan], np.float32),
        "value_": np.array(["no such colour", "RED"], np.object_),
        "prepare/0/Unsqueeze": np.array(["31.12.2026", "2026-12-31T23:59:59+01:00 "], np.object_),
        "features": np.array(["\0\x01", "完全に新しい言葉"], np.object_),
    }
    assert engine.infer(strange)["value"].shape[0] == 2
