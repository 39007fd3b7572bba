"""Functions of the user's own: trained, proved and served like anything else, and blamed line by line."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mofang.base.domain.errors import ConversionFailed, InvalidRecipe, ParityFailed, TrainingFailed
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_engine
from mofang.make.convert.catalog import converter
from mofang.make.convert.parity import prove
from mofang.make.prepare.dataset import Examples, examples_of
from mofang.make.recipe import Function, parse_recipe
from mofang.make.train.catalog import trainer
from mofang.make.train.function import Fitted
from mofang.train import Layer, Model, function

HEAD = "import numpy as np\nfrom mofang.train import Layer, Model\ndef train(rows, target, progress):\n"
ONE_LAYER = (
    HEAD
    + "    w, b = np.ones((rows.shape[1], {outputs})), np.arange({outputs}.0)\n    return Model({predict}, {layers})"
)


@pytest.fixture(scope="module")
def xor() -> Examples:
    bits = np.random.default_rng(0).integers(0, 2, (400, 2))
    return examples_of(
        (bits + np.random.default_rng(1).normal(0, 0.1, bits.shape)).astype(np.float32), bits[:, 0] ^ bits[:, 1]
    )


def run(code: str, examples: Examples) -> Fitted:
    """Train by ``code``."""
    spec = Function(code=code)
    fitted = trainer(spec)(spec, examples, Silent()).pipeline
    assert isinstance(fitted, Fitted)
    return fitted


def check(fitted: Fitted, examples: Examples, folder: Path) -> float:
    """Export, and hold the engine against the function; return the largest difference."""
    to_onnx, reference = converter("function")
    signature = to_onnx(fitted, folder)
    engine = load_engine("onnx", folder)
    assert engine.signature == signature
    return prove(
        partial(reference, fitted), engine.infer, examples.rows(), Silent(), batch_sizes=(1, 64)
    ).max_difference


def test_the_network_of_the_tutorial_learns_exclusive_or(xor: Examples, tmp_path: Path) -> None:
    recipe = parse_recipe((Path(__file__).parents[3] / "examples" / "xor.toml").read_text("utf-8"), "xor.toml")
    model = trainer(recipe.train)(recipe.train, xor, Silent())
    assert model.curve[-1]["accuracy"] == 1.0
    assert model.curve[-1]["loss"] < model.curve[0]["loss"] / 3
    assert check(model.pipeline, xor, tmp_path) < 1e-6
    assert (load_engine("onnx", tmp_path).infer({"features": xor.rows()})["label"] == xor.target).all()


@pytest.mark.parametrize(
    ("outputs", "predict", "layers", "classes"),
    [
        (1, "lambda x: np.maximum(x @ w + b, 0)", '[Layer(w, b, "relu")]', 0),
        (3, "lambda x: np.exp(x @ w + b) / np.exp(x @ w + b).sum(1, keepdims=True)", '[Layer(w, b, "softmax")]', 3),
    ],
)
def test_numbers_and_many_classes_are_served_too(
    outputs: int, predict: str, layers: str, classes: int, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    examples = examples_of(rows, np.arange(60) % classes if classes else rows.sum(axis=1).astype(np.float64))
    code = ONE_LAYER.format(outputs=outputs, predict=predict, layers=layers)
    assert check(run(code, examples), examples, tmp_path) < 1e-5


def test_layers_that_compute_something_else_are_found_out(xor: Examples, tmp_path: Path) -> None:
    code = ONE_LAYER.format(outputs=1, predict="lambda x: x[:, 0]", layers='[Layer(w, b, "sigmoid")]')
    with pytest.raises(ParityFailed):
        check(run(code, xor), xor, tmp_path)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("[Layer(w.T, b)]", r"layer 1 has weights \[1, 2\] and bias \[1\] for 2 inputs"),
        ("[Layer(np.ones((2, 5)), np.zeros(5))]", "the last layer has 5 outputs; 2 are needed"),
    ],
)
def test_layers_that_do_not_fit_are_named(xor: Examples, layers: str, message: str, tmp_path: Path) -> None:
    fitted = run(ONE_LAYER.format(outputs=1, predict="lambda x: x", layers=layers), xor)
    with pytest.raises(ConversionFailed, match=message):
        converter("function")[0](fitted, tmp_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (HEAD + "    return 1 / 0", r"train\(\) failed in line 4 of the code: ZeroDivisionError: division by zero"),
        (HEAD + "    import sys; sys.exit(3)", r"train\(\) failed in line 4 of the code: SystemExit: 3"),
        (HEAD + "    return 3", r"train\(\) returned a int, not a mofang.train.Model"),
        ("import nothing_of_this_name", "line 1 of the code: ModuleNotFoundError"),
        ("x = 1", "the code defines no function 'train'"),
    ],
)
def test_code_that_fails_is_blamed_by_its_line(xor: Examples, code: str, message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        run(code, xor)


def test_code_that_is_no_python_is_refused_before_anything_runs() -> None:
    text = "name='a'\nprepare.source='sklearn:iris'\n[train]\nalgorithm='function'\ncode='''\nx = (\n'''"
    with pytest.raises(
        InvalidRecipe, match=r"a.toml line 5: \[train\] code is no Python: line 1 of it: '\(' was never"
    ):
        parse_recipe(text, "a.toml")


def learn(rows: np.ndarray, target: np.ndarray, progress: object) -> Model:
    """Say that everything is of the second class (it is also the example of :func:`mofang.train.function`)."""
    weights = np.zeros((rows.shape[1], 1))
    return Model(lambda rows: np.full(len(rows), 0.75), [Layer(weights, np.log([3.0]), "sigmoid")])


def test_a_function_becomes_a_recipe_that_holds_its_module(xor: Examples, tmp_path: Path) -> None:
    recipe = parse_recipe(function(learn, name="xor", source="sklearn:iris", gate="accuracy >= 0.5"), "xor.toml")
    assert isinstance(recipe.train, Function)
    assert (recipe.name, recipe.train.name, recipe.evaluate.gate) == ("xor", "learn", "accuracy >= 0.5")
    model = trainer(recipe.train)(recipe.train, xor, Silent())
    assert check(model.pipeline, xor, tmp_path) < 1e-6
