"""What every engine does: the same digits classifier, natively and in ONNX, answers alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import skops.io
from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed, EngineNotFound, InvalidSettings, MofangError
from mofang.base.domain.tensors import Signature, TensorSpec, check_inputs
from mofang.base.engines.base import Engine, warm_up
from mofang.base.engines.catalog import engine_names, load_engine

ESTIMATORS = {
    "logistic": LogisticRegression(max_iter=30, tol=0.1),
    "forest": RandomForestClassifier(5, max_depth=6, random_state=0),
    "mlp": MLPClassifier((16,), max_iter=400, tol=0.01, random_state=0),
}
SIGNATURE = Signature(
    (TensorSpec("features", "FP32", (-1, 64)),),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 10))),
)


@pytest.fixture(scope="module", params=sorted(ESTIMATORS))
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    x, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), ESTIMATORS[request.param]).fit(x.astype(np.float32), y)
    folder = tmp_path_factory.mktemp(request.param)
    skops.io.dump(pipeline, folder / "model.skops")
    (folder / "signature.json").write_bytes(msgspec.json.encode(SIGNATURE))
    options = {"zipmap": False}
    names = ["label", "probabilities"]
    model = to_onnx(pipeline, x[:1].astype(np.float32), options=options, target_opset=17)
    for node in model.graph.node:
        node.output[:] = [names[1] if name == "probabilities" else name for name in node.output]
    model.graph.input[0].name = "features"
    for node in model.graph.node:
        node.input[:] = ["features" if name == "X" else name for name in node.input]
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return {"onnx": folder, "sklearn": folder}


@pytest.fixture(params=["onnx", "sklearn"])
def engine(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Any:
    loaded = load_engine(request.param, folders[request.param])
    yield loaded
    loaded.close()


def test_names_are_known() -> None:
    assert {"onnx", "sklearn"} <= set(engine_names())
    with pytest.raises(EngineNotFound, match="'caffe'"):
        load_engine("caffe", Path())


def test_outputs_are_as_the_signature_says(engine: Engine) -> None:
    x = load_digits().data[:7].astype(np.float32)
    assert check_inputs(engine.signature, {"features": x}, "a test") == 7
    outputs = engine.infer({"features": x})
    assert list(outputs) == [spec.name for spec in engine.signature.outputs] == ["label", "probabilities"]
    assert (outputs["label"].dtype, outputs["label"].shape) == (np.int64, (7,))
    assert (outputs["probabilities"].dtype, outputs["probabilities"].shape) == (np.float32, (7, 10))
    assert engine.signature.batchable


def test_a_batch_answers_as_its_rows_do(engine: Engine) -> None:
    x = load_digits().data[:20].astype(np.float32)
    together = engine.infer({"features": x})
    for row in range(20):
        alone = engine.infer({"features": x[row : row + 1]})
        assert alone["label"][0] == together["label"][row]
        assert np.allclose(alone["probabilities"][0], together["probabilities"][row], atol=1e-5)


def test_engines_agree(folders: dict[str, Path]) -> None:
    x = load_digits().data.astype(np.float32)
    answers = [load_engine(name, folder).infer({"features": x}) for name, folder in folders.items()]
    assert np.array_equal(answers[0]["label"], answers[1]["label"])
    assert np.allclose(answers[0]["probabilities"], answers[1]["probabilities"], atol=1e-5)


def test_warming_up_passes(engine: Engine) -> None:
    warm_up(engine)
    warm_up(engine, {"features": load_digits().data[:1].astype(np.float32)})


def test_what_cannot_be_computed_fails_typed_and_the_engine_goes_on(engine: Engine) -> None:
    with pytest.raises(EngineFailed):
        engine.infer({"features": np.zeros((1, 63), np.float32)})
    engine.infer({"features": np.zeros((1, 64), np.float32)})


@pytest.mark.parametrize("name", ["onnx", "sklearn"])
def test_damaged_or_missing_files_do_not_load(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(EngineLoadFailed):
        load_engine(name, tmp_path)
    file = {"onnx": "model.onnx", "sklearn": "model.skops"}[name]
    whole = (folders[name] / file).read_bytes()
    (tmp_path / "signature.json").write_bytes((folders[name] / "signature.json").read_bytes())
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        (tmp_path / file).write_bytes(content)
        with pytest.raises(EngineLoadFailed):
            load_engine(name, tmp_path)


@pytest.mark.parametrize("name", ["onnx", "sklearn"])
def test_unknown_options_are_refused(name: str, folders: dict[str, Path]) -> None:
    with pytest.raises(InvalidSettings, match="'turbo'") as refusal:
        load_engine(name, folders[name], {"turbo": 1})
    assert isinstance(refusal.value, MofangError)
