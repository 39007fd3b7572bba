"""Models of heavier frameworks through the whole push job: recognised, opened locked in, served as they answered."""

import io
import os
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_folders import tiny_llama
from pushing import CHAINS, Push
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris

from mofang.base.domain.errors import ConversionFailed, InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE, Sampling
from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Silent
from mofang.base.engines.catalog import load_generator
from mofang.base.engines.transformers.engine import TransformersEngine
from mofang.make.pipeline import push_files
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks warn of each other's versions


# --- CatBoost -----------------------------------------------------------------------------------------------------


def _cbm(model: Any, folder: Path) -> bytes:
    model.save_model(str(folder / "model"), format="cbm")
    return (folder / "model").read_bytes()


@pytest.mark.pushes("catboost")
@pytest.mark.parametrize("load", [load_breast_cancer, load_iris])
def test_catboost_classes_become_onnx(push: Push, tmp_path: Path, load: Callable[..., Any]) -> None:
    import catboost

    features, target = load(return_X_y=True)
    rows = features.astype(np.float32)
    names = np.array(["no", "yes", "perhaps"])[target]
    model = catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False).fit(rows, names)
    version, ask = push(_cbm(model, tmp_path))
    assert (version.artifact.engine, version.artifact.labels) == ("onnx", tuple(map(str, model.classes_)))
    answer = ask({"features": rows})
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(rows), atol=1e-5)
    assert [version.artifact.labels[label] for label in answer["label"]] == model.predict(rows).ravel().tolist()


def test_catboost_numbers_become_onnx(push: Push, tmp_path: Path) -> None:
    import catboost

    features, target = load_diabetes(return_X_y=True)
    rows = features.astype(np.float32)
    model = catboost.CatBoostRegressor(iterations=20, verbose=0, allow_writing_files=False).fit(rows, target)
    version, ask = push(_cbm(model, tmp_path))
    assert version.artifact.engine == "onnx"
    np.testing.assert_allclose(ask({"features": rows})["value"], model.predict(rows), rtol=1e-4)


def test_catboost_with_categories_is_served_by_catboost(push: Push, tmp_path: Path) -> None:
    import catboost

    random = np.random.default_rng(0)
    towns = random.choice(["oslo", "rome", "lima"], 400)
    numbers = random.normal(size=(400, 2)).astype(np.float32)
    table = np.empty((400, 3), object)
    table[:, 0], table[:, 1], table[:, 2] = numbers[:, 0], towns, numbers[:, 1]
    target = (towns == "rome") ^ (numbers[:, 0] > 0)
    model = catboost.CatBoostClassifier(iterations=20, cat_features=[1], verbose=0, allow_writing_files=False)
    model.fit(table, target.astype(int))
    version, ask = push(_cbm(model, tmp_path))
    assert version.artifact.engine == "catboost"
    assert [str(spec) for spec in version.artifact.signature.inputs] == [
        "features: [n, 2] FP32",
        "categories: [n, 1] BYTES",
    ]
    table[:50, 1] = "atlantis"  # no training has seen it
    categories = np.array([each.encode() for each in table[:, 1]], object).reshape(-1, 1)
    answer = ask({"features": numbers, "categories": categories})
    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(table), atol=1e-5)


# --- Vowpal Wabbit ------------------------------------------------------------------------------------------------


@pytest.mark.pushes("vowpalwabbit")
def test_vowpal_wabbit_is_served_by_vowpal_wabbit(push: Push, tmp_path: Path) -> None:
    import vowpalwabbit

    path, random = tmp_path / "model", np.random.default_rng(0)
    model = vowpalwabbit.Workspace(
        arg_list=["--quiet", "-f", str(path), "--loss_function", "logistic", "--link", "logistic"]
    )
    lines = [f"| town={'oslo' if each > 0 else 'rome'} size:{abs(each):.3f}" for each in random.normal(size=300)]
    for line in lines:
        model.learn(f"{1 if 'oslo' in line else -1} {line}")
    expected = [model.predict(line) for line in lines]
    model.finish()
    version, ask = push(path.read_bytes())
    assert version.artifact.engine == "vowpalwabbit"
    answer = ask({"examples": np.array([line.encode() for line in lines], object)})
    np.testing.assert_allclose(answer["value"], expected, atol=1e-5)


# --- PyTorch ------------------------------------------------------------------------------------------------------


def _net() -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).eval()


def test_an_exported_program_becomes_onnx(push: Push) -> None:
    import torch

    class Attention(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(50, 16)
            self.layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, tokens: Any) -> Any:
            return {"hidden": self.layer(self.words(tokens))}

    net = Attention().eval()
    dims = {0: torch.export.Dim("batch", max=512), 1: torch.export.Dim("length", max=512)}
    buffer = io.BytesIO()
    program = torch.export.export(net, (torch.randint(0, 50, (2, 7)),), dynamic_shapes=(dims,))
    torch.export.save(program, buffer)
    version, ask = push(buffer.getvalue())
    assert version.artifact.engine == "onnx"
    assert [str(spec) for spec in version.artifact.signature.inputs] == ["tokens: [n, n] INT64"]
    tokens = np.random.default_rng(0).integers(0, 50, (5, 11))
    with torch.no_grad():
        expected = net(torch.from_numpy(tokens))["hidden"].numpy()
    np.testing.assert_allclose(ask({"tokens": tokens})["hidden"], expected, atol=1e-5)


def test_torchscript_becomes_onnx_if_its_input_is_told(push: Push) -> None:
    import torch

    net, buffer = _net(), io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.trace(net, torch.zeros(2, 6)), buffer)
    with pytest.raises(InvalidModel, match="does not say what its input looks like") as caught:
        push(buffer.getvalue())
    assert "--input-shape" in caught.value.hint
    version, ask = push(buffer.getvalue(), input_shape=(6,))
    rows = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    (answer,) = ask({version.artifact.signature.inputs[0].name: rows}).values()
    np.testing.assert_allclose(answer, net(torch.from_numpy(rows)).detach().numpy(), atol=1e-6)


def test_bare_weights_need_a_network_that_is_installed(push: Push) -> None:
    import torch
    from safetensors.torch import save

    weights = {"weight": torch.ones(1), "bias": torch.zeros(1), "running_mean": torch.zeros(1)}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    for content in (save(weights), buffer.getvalue()):
        with pytest.raises(InvalidModel, match="does not say of which network"):
            push(content)
        with pytest.raises(InvalidModel, match="cannot be made: No module named 'nowhere'"):
            push(content, architecture="nowhere:net", input_shape=(3,))
        with pytest.raises(InvalidModel, match="makes no torch"):
            push(content, architecture="builtins:dict", input_shape=(3,))


NETWORK = """
import torch

WIDTH = 5

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, WIDTH)

    def forward(self, rows):
        return torch.tanh(self.inner(rows))

def build():
    return Net()

def escape():
    open("/etc/hostname").read()
"""


def test_bare_weights_may_bring_the_code_of_their_network(push: Push, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    weights = {"inner.weight": torch.randn(5, 3), "inner.bias": torch.randn(5)}
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(weights, folder / "weights.safetensors")
    with pytest.raises(InvalidModel, match=r"0 files 'net\.py' were pushed along"):
        push(folder, architecture="net.py:build", input_shape=(3,))
    (folder / "net.py").write_text(NETWORK)
    version, ask = push(folder, architecture="net.py:build", input_shape=(3,))
    rows = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    (answer,) = ask({"input": rows}).values()
    expected = torch.tanh(torch.from_numpy(rows) @ weights["inner.weight"].T + weights["inner.bias"])
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-6)
    assert version.artifact.engine == "onnx"
    kept = [entry.path for entry in version.lineage.conversion.files]  # type: ignore[union-attr]
    assert kept == ["net.py", "weights.safetensors"]
    with pytest.raises(InvalidModel, match="cannot be made: there is no 'make'"):
        push(folder, architecture="net.py:make", input_shape=(3,))
    with pytest.raises(ConversionFailed, match="PermissionError"):  # the code is locked in
        push(folder, architecture="net.py:escape", input_shape=(3,))
    (folder / "net.py").write_text("def build(:")
    with pytest.raises(InvalidModel, match="invalid syntax"):
        push(folder, architecture="net.py:build", input_shape=(3,))


# --- Keras --------------------------------------------------------------------------------------------------------


def _keras(folder: Path, suffix: str) -> tuple[Any, bytes]:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="picture"),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.save(folder / f"model{suffix}")
    return model, (folder / f"model{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_becomes_onnx(push: Push, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    model, content = _keras(tmp_path, suffix)
    version, ask = push(content)
    assert version.artifact.engine == "onnx"
    assert [str(spec) for spec in version.artifact.signature.inputs] == ["picture: [n, 8, 8, 1] FP32"]
    rows = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(ask({"picture": rows})["output"], model(rows).detach().numpy(), atol=1e-5)


def test_keras_layers_with_code_in_them_are_refused(
    push: Push, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    import keras

    sentinel = tmp_path / "sentinel"
    name = str(sentinel)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: os.makedirs(name, exist_ok=True) or x)])
    model.save(tmp_path / "model.keras")
    sentinel.rmdir()  # building the layer ran it here
    with pytest.raises(InvalidModel, match=r"Keras .* cannot read the model"):
        push((tmp_path / "model.keras").read_bytes())
    assert not sentinel.exists()


# --- Hugging Face folders, and MLflow around others ---------------------------------------------------------------


def _bert(folder: Path, kind: str, **more: Any) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
        max_position_embeddings=40, **more,
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return model


def test_an_encoder_folder_becomes_onnx_with_its_tokenizer(push: Push, tmp_path: Path) -> None:
    import torch

    model = _bert(tmp_path / "bert", "BertModel")
    version, ask = push(tmp_path / "bert")
    assert version.artifact.engine == "onnx"
    assert [entry.path for entry in version.artifact.files] == ["model.onnx", "tokenizer.json"]
    ids = np.random.default_rng(0).integers(0, 99, (4, 9))
    answer = ask({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    with torch.no_grad():
        hidden = model(torch.from_numpy(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(answer["last_hidden_state"], hidden, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(answer["sentence_embedding"], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_encoder_with_a_tokenizer_is_asked_texts(push: Push, tmp_path: Path, pooling: str) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    model, folder = _bert(tmp_path / "bert", "BertModel"), tmp_path / "bert"
    words = {word: number for number, word in enumerate(["[UNK]", "tea", "is", "warm", "and", "late"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(f'{{"pooling_mode_cls_token": {str(pooling == "cls").lower()}}}')
    version, ask = push(folder)
    assert version.artifact.engine == "encoder"
    assert [str(spec) for spec in version.artifact.signature.inputs] == ["text: [n] BYTES"]
    found = ask({"text": np.array([b"tea is warm", b"tea and tea is late"], object)})
    assert found["input_tokens"].tolist() == [3, 5]
    with torch.no_grad():
        states = [model(torch.tensor([row])).last_hidden_state[0] for row in ([1, 2, 3], [1, 4, 1, 2, 5])]
    pooled = torch.stack([each[0] if pooling == "cls" else each.mean(dim=0) for each in states])
    expected = torch.nn.functional.normalize(pooled, dim=1).numpy()
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)


def test_a_classifier_folder_keeps_its_labels(push: Push, tmp_path: Path) -> None:
    _bert(tmp_path / "bert", "BertForSequenceClassification", id2label={0: "sad", 1: "glad"})
    version, ask = push(tmp_path / "bert")
    assert version.artifact.labels == ("sad", "glad")
    ids = np.ones((2, 5), np.int64)
    np.testing.assert_allclose(
        ask({"input_ids": ids, "attention_mask": ids})["probabilities"].sum(axis=1), 1, rtol=1e-5
    )


@pytest.mark.parametrize("inside", ["", "model"])
def test_a_causal_folder_is_served_as_it_is(tools: Workshop, tmp_path: Path, inside: str) -> None:
    folder = tiny_llama(tmp_path)
    (folder / "modeling.py").write_text("raise SystemExit('run')")
    files = []
    for path in folder.iterdir():
        ref = tools.blobs.put([path.read_bytes()])
        files.append({"path": str(Path(inside) / path.name), "sha256": ref.sha256, "size_bytes": ref.size_bytes})
    push_files({"model": "tiny", "files": files}, tools, Silent())
    version = tools.registry.get(VersionRef.parse("tiny"))
    assert (version.artifact.engine, version.artifact.signature) == ("transformers", TEXT_SIGNATURE)
    served = tools.registry.folder(version, tmp_path / "served")
    assert not (served / "modeling.py").exists()
    engine = load_generator("transformers", served, {"threads": 1})
    assert isinstance(engine, TransformersEngine)
    engine.add(1, engine.encode("one two"), Sampling(max_tokens=2))
    assert sum(delta.tokens for delta in engine.step()[0]) == 1
    engine.close()


def test_what_generates_and_is_not_whole_is_sent_to_gguf(push: Push, tmp_path: Path) -> None:
    _bert(tmp_path / "bert", "BertLMHeadModel", is_decoder=True)
    (tmp_path / "bert" / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(InvalidModel, match="which generates") as caught:
        push(tmp_path / "bert")
    assert "GGUF" in caught.value.hint


@pytest.mark.pushes("mlflow")
def test_an_mlflow_folder_is_opened_by_what_is_inside(push: Push, tmp_path: Path) -> None:
    import catboost

    features, target = load_iris(return_X_y=True)
    model = catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(features, target)
    folder = tmp_path / "mlflow"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  catboost:\n    data: model.cb\n    model_type: CatBoostClassifier\n")
    (folder / "requirements.txt").write_text("catboost\n")
    model.save_model(str(folder / "model.cb"), format="cbm")
    version, _ = push(folder)
    assert version.lineage.conversion is not None
    assert (version.artifact.engine, version.lineage.conversion.format) == ("onnx", "mlflow catboost")


# --- TensorFlow ---------------------------------------------------------------------------------------------------

SAVE = """
import sys
import numpy as np, tensorflow as tf

data = np.load(sys.argv[2])

class Scores(tf.Module):
    def __init__(self):
        self.weights, self.bias = tf.Variable(tf.zeros([4, 3])), tf.Variable(tf.zeros([3]))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def __call__(self, rows):
        found = rows @ self.weights + self.bias
        return {"scores": tf.nn.softmax(found), "best": tf.argmax(found, axis=1)}

model = Scores()
for _ in range(300):
    with tf.GradientTape() as tape:
        found = data["rows"] @ model.weights + model.bias
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data["target"], found))
    for each, gradient in zip(model.trainable_variables, tape.gradient(loss, model.trainable_variables)):
        each.assign_sub(0.1 * gradient)
tf.saved_model.save(model, sys.argv[1], signatures=model.__call__)
np.save(sys.argv[3], model(data["rows"])["scores"].numpy())
"""


@pytest.mark.pushes("savedmodel")
@pytest.mark.timeout(600)
def test_a_saved_model_becomes_onnx_in_the_toolchain_of_tensorflow(push: Push, tmp_path: Path) -> None:
    CHAINS.install("tensorflow", Silent())  # once; it is kept for the next time
    features, target = load_iris(return_X_y=True)
    rows = features.astype(np.float32)
    np.savez(tmp_path / "iris.npz", rows=rows, target=target)
    places = [tmp_path / name for name in ("saved", "iris.npz", "scores.npy")]
    subprocess.run([CHAINS.python("tensorflow"), "-c", SAVE, *places], check=True, capture_output=True)
    version, ask = push(tmp_path / "saved")
    assert version.artifact.engine == "onnx"
    assert [str(spec) for spec in version.artifact.signature.inputs] == ["rows: [n, 4] FP32"]
    conversion = version.lineage.conversion
    assert conversion is not None
    assert (conversion.format, conversion.proof["rows"]) == ("savedmodel", 6)
    expected, found = np.load(tmp_path / "scores.npy"), ask({"rows": rows})
    np.testing.assert_allclose(found["scores"], expected, atol=1e-6)
    assert found["best"].tolist() == expected.argmax(axis=1).tolist()
    assert (found["best"] == target).mean() > 0.9


# --- MindSpore ----------------------------------------------------------------------------------------------------

MINDIR = """
import sys
import numpy as np, mindspore as ms
from mindspore import nn, ops

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, weight_init="normal")
        self.norm = nn.BatchNorm2d(4)
        self.dense = nn.Dense(16, 3, weight_init="normal")
        self.relu, self.pool, self.softmax = nn.ReLU(), nn.MaxPool2d(4, 4), nn.Softmax()

    def construct(self, pixels):
        found = self.pool(self.relu(self.norm(self.conv(pixels))))
        found = self.dense(ops.reshape(found, (found.shape[0], 16)))
        return found, self.softmax(found)

data = np.load("digits.npz")
ms.set_seed(0)
net = Net()
loss, step = nn.CrossEntropyLoss(), nn.Adam(net.trainable_params(), 0.01)
learn = ms.value_and_grad(lambda rows, target: loss(net(rows)[0], target), None, net.trainable_params())
for _ in range(60):
    step(learn(ms.Tensor(data["pixels"]), ms.Tensor(data["target"]))[1])
net.set_train(False)
rows = None if sys.argv[2] == "open" else int(sys.argv[2])
ms.export(net, ms.Tensor(shape=[rows, 1, 8, 8], dtype=ms.float32), file_name=sys.argv[1], file_format="MINDIR")
pixels = data["pixels"][: rows or 500]
scores, probabilities = net(ms.Tensor(pixels))
np.savez(sys.argv[1], pixels=pixels, scores=scores.asnumpy(), probabilities=probabilities.asnumpy())
"""


def _export(folder: Path, rows: str) -> None:
    """Have three digits learned; write ``net.mindir``, ``digits.npz``, the data, and ``net.npz``, what it answers."""
    features, target = load_digits(n_class=3, return_X_y=True)
    pixels = (features / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    np.savez(folder / "digits.npz", pixels=pixels, target=target.astype(np.int32))
    program = folder / "net.py"
    program.write_text(MINDIR)  # MindSpore reads the source of what it compiles
    made = [CHAINS.python("mindspore"), program, folder / "net", rows]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)


@pytest.mark.pushes("mindir")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("rows", "proved"), [("open", 6), ("1", 1)])
def test_mindir_becomes_onnx_in_the_toolchain_of_mindspore(push: Push, tmp_path: Path, rows: str, proved: int) -> None:
    CHAINS.install("mindspore", Silent())  # once; it is kept for the next time
    _export(tmp_path, rows)
    version, ask = push((tmp_path / "net.mindir").read_bytes())
    signature = version.artifact.signature
    assert version.artifact.engine == "onnx"
    size = "n" if rows == "open" else rows
    assert [str(spec) for spec in signature.inputs] == [f"pixels: [{size}, 1, 8, 8] FP32"]
    assert [str(spec) for spec in signature.outputs] == [f"output_{at}: [{size}, 3] FP32" for at in (0, 1)]
    conversion = version.lineage.conversion
    assert conversion is not None
    assert (conversion.format, conversion.proof["rows"]) == ("mindir", proved)
    expected = np.load(tmp_path / "net.npz")
    found = ask({"pixels": expected["pixels"]})
    np.testing.assert_allclose(found["output_0"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found["output_1"], expected["probabilities"], atol=1e-6)
    target = np.load(tmp_path / "digits.npz")["target"]
    assert (found["output_0"].argmax(axis=1) == target[: len(found["output_0"])]).mean() > 0.9


def test_mindir_that_is_cut_short_is_refused(push: Push, tmp_path: Path) -> None:
    CHAINS.install("mindspore", Silent())
    _export(tmp_path, "1")
    content = bytearray((tmp_path / "net.mindir").read_bytes())
    content[200:400] = os.urandom(200)
    with pytest.raises((InvalidModel, ConversionFailed)):
        push(bytes(content))
