"""Recipes of the heavier frameworks from data to a served version: the same words, the same proofs, the same quotes."""

import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pushing import CHAINS

from mofang.base.domain.errors import JobCancelled, NoExport, TrainingFailed
from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Silent
from mofang.make.pipeline import JOB_KINDS
from mofang.make.train.torch import checkpoint
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.filterwarnings("ignore")  # frameworks warn of each other's versions
RECIPE = """
name = "made"
[prepare]
source = "sklearn:{data}"
{prepare}
[train]
{train}
[evaluate]
gate = "{gate}"
"""
CODE = 'code = """\\nimport keras\\n\\n\\ndef build(shape, classes):\\n    return {made}\\n"""'
SEVERAL = "epochs = 20\nbatch_size = 32\nlearning_rate = 0.01\noptimiser = 'adam'\n"
OWN = (
    'keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(32, "relu"), '
    'keras.layers.Dense(classes, "softmax")])'
)


def recipe(train: str, *, data: str = "digits", prepare: str = "limit = 600", gate: str = "accuracy >= 0.5") -> str:
    return RECIPE.replace("{train}", train).format(data=data, prepare=prepare, gate=gate)


def train(tools: Workshop, text: str, progress: Any = None) -> dict[str, Any]:
    return JOB_KINDS["train"]({"recipe": text, "filename": "made.toml"}, tools, progress or Silent())


@pytest.mark.trains("catboost", "vowpal_wabbit")
@pytest.mark.parametrize(
    ("algorithm", "data", "gate"),
    [
        ('algorithm = "catboost"\nrounds = 40', "breast_cancer", "accuracy >= 0.9"),
        ('algorithm = "catboost"\nrounds = 40', "iris", "accuracy >= 0.8"),
        ('algorithm = "catboost"\nrounds = 60', "diabetes", "rmse <= 65"),
        ('algorithm = "vowpal_wabbit"\nepochs = 5', "breast_cancer", "accuracy >= 0.9"),
        ('algorithm = "vowpal_wabbit"\nepochs = 10', "iris", "accuracy >= 0.8"),
        ('algorithm = "vowpal_wabbit"\nepochs = 60\nlearning_rate = 5.0', "diabetes", "rmse <= 65"),
        ('algorithm = "dense"\nlibrary = "keras"\nepochs = 30\nlearning_rate = 0.01', "iris", "accuracy >= 0.8"),
        ('algorithm = "dense"\nlibrary = "keras"\nepochs = 60\nlearning_rate = 0.01', "diabetes", "rmse <= 70"),
    ],
)
def test_a_recipe_becomes_a_version_and_again_the_same(tools: Workshop, algorithm: str, data: str, gate: str) -> None:
    text = recipe(algorithm, data=data, prepare='normalise = { method = "standard" }', gate=gate)
    made = train(tools, text)
    version = tools.registry.get(VersionRef.parse("made"))
    assert version.artifact.engine == "onnx"
    assert tools.runs.get(made["run"]).conversion["passed"]
    assert not train(tools, text)["created"]  # the same arguments make the same model, byte for byte
    quote = JOB_KINDS["quote"]({"recipe": text, "filename": "made.toml"}, tools, Silent())
    assert quote["seconds"] > 0


@pytest.mark.trains("keras")
@pytest.mark.parametrize(
    "algorithm",
    [
        'algorithm = "cnn"\nchannels = [8]\nhidden = [32]',
        'algorithm = "resnet"\nblocks = [1, 1]\nwidth = 8',
        'algorithm = "vgg"\ndepth = 11\nwidth = 4\nhidden = [16]\ndropout = 0.0',
        'algorithm = "rnn"\ncell = "lstm"\nsteps = 8\nwidth = 32\nbidirectional = true',
        'algorithm = "rnn"\ncell = "gru"\nsteps = 8\nwidth = 32',
        'algorithm = "transformer"\nsteps = 8\nwidth = 32\nheads = 2\nlayers = 1',
        'algorithm = "keras"\n' + CODE.format(made=OWN),
    ],
)
def test_networks_of_keras_learn_and_are_proven(tools: Workshop, algorithm: str) -> None:
    library = "" if '"keras"' in algorithm else 'library = "keras"\n'
    keys = "epochs = 6\nbatch_size = 32\nlearning_rate = 0.01\noptimiser = 'adam'\ndecay = 'cosine'\n"
    train(tools, recipe(keys + library + algorithm))
    version = tools.registry.get(VersionRef.parse("made"))
    assert [spec.name for spec in version.artifact.signature.outputs] == ["label", "probabilities"]
    assert "keras 3." in tools.runs.get(version.lineage.run).code


@pytest.mark.parametrize(
    "algorithm",
    [
        'algorithm = "catboost"\nrounds = 40',
        'algorithm = "dense"\nlibrary = "keras"\nclass_weights = "balanced"\n' + SEVERAL,
        'algorithm = "keras"\n' + SEVERAL + CODE.format(made=OWN.replace("softmax", "sigmoid")),
    ],
)
def test_several_labels_are_learned_and_proven(tools: Workshop, tmp_path: Path, algorithm: str) -> None:
    random = np.random.default_rng(0)
    lines = ["damp,heat,rain,warm,wind"]
    for damp, heat, gust in random.normal(size=(500, 3)):
        lines.append(f"{damp:.3f},{heat:.3f},{damp > 0},{heat > 0.5},{damp + gust / 9 > 1}")
    (tmp_path / "days.csv").write_text("\n".join(lines))
    text = recipe(algorithm, prepare='target = ["rain", "warm", "wind"]', gate="micro_f1 >= 0.85")
    made = train(tools, text.replace("sklearn:digits", f"csv:{tmp_path / 'days.csv'}"))
    version = tools.registry.get(VersionRef.parse("made"))
    outputs = {spec.name: (spec.datatype, spec.shape) for spec in version.artifact.signature.outputs}
    assert outputs == {"labels": ("INT64", (-1, 3)), "probabilities": ("FP32", (-1, 3))}
    assert version.artifact.labels == ("rain", "warm", "wind")
    run = tools.runs.get(made["run"])
    assert run.conversion["passed"]
    assert run.curve[-1]["loss"] < run.curve[0]["loss"]


def test_augmentation_early_stopping_and_cancelling_work_in_keras(tools: Workshop) -> None:
    class Watched:
        def __init__(self) -> None:
            self.epochs: list[float] = []

        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            if stage == "train":
                self.epochs.append(float(data["epoch"]))
                if len(self.epochs) == 2:
                    raise JobCancelled("enough")

    text = recipe('algorithm = "dense"\nlibrary = "keras"\nepochs = 50')
    with pytest.raises(JobCancelled):
        train(tools, text, watched := Watched())
    assert watched.epochs == [1.0, 2.0]
    keys = 'algorithm = "dense"\nlibrary = "keras"\nepochs = 200\nlearning_rate = 0.05\nearly_stopping = 2'
    pictures = 'algorithm = "cnn"\nlibrary = "keras"\nchannels = [4]\nhidden = []\nepochs = 1'
    plain, changed = (
        tools.runs.get(train(tools, recipe(pictures, prepare=f"limit = 300\n{more}", gate=""))["run"]).network
        for more in ("", "augment = { crop = 2 }")
    )
    assert plain != changed
    stopped = train(tools, recipe(keys, gate=""))
    assert len(tools.runs.get(stopped["run"]).curve) < 200


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("1 / 0", "build() failed: division by zero"),
        ('"a network"', "returned a str, not a keras.Model"),
        (
            "keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])",
            "answers [3] numbers for a row, 10 are",
        ),
    ],
)
def test_a_function_that_builds_no_network_says_why(tools: Workshop, made: str, why: str) -> None:
    with pytest.raises(TrainingFailed) as failed:
        train(tools, recipe('algorithm = "keras"\n' + CODE.format(made=made)))
    assert why in failed.value.message


@pytest.mark.timeout(600)
def test_a_network_of_keras_leaves_as_keras_and_as_a_saved_model(tools: Workshop, tmp_path: Path) -> None:
    CHAINS.install("tensorflow", Silent())  # once; it is kept for the next time
    train(tools, recipe('algorithm = "cnn"\nlibrary = "keras"\nchannels = [4]\nhidden = [8]\nepochs = 2', gate=""))
    for to, python in (("keras", None), ("tensorflow", CHAINS.python("tensorflow"))):
        found = JOB_KINDS["export"]({"version": "made", "to": to, "licence": ""}, tools, Silent())
        assert found["parity"]["rows"] == 65
        assert found["parity"]["max_difference"] < 1e-5
        with zipfile.ZipFile(io.BytesIO(tools.blobs.read(found["archive"]))) as packed:
            packed.extractall(tmp_path / to)
        if python is not None:
            command = [python, "predict.py", "example.json"]
            done = subprocess.run(command, cwd=tmp_path / to, capture_output=True, check=True)
            outputs = {each["name"]: each for each in json.loads(done.stdout)["outputs"]}
            np.testing.assert_allclose(np.sum(outputs["probabilities"]["data"]), 2.0, rtol=1e-5)
    train(tools, recipe('algorithm = "decision_tree"', gate=""))
    with pytest.raises(NoExport, match="no network of Keras"):
        JOB_KINDS["export"]({"version": "made", "to": "tensorflow", "licence": ""}, tools, Silent())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stopping", [0, 20])
def test_a_killed_training_of_keras_ends_with_the_weights_of_one_that_was_not(
    tools: Workshop, monkeypatch: pytest.MonkeyPatch, stopping: int
) -> None:
    monkeypatch.setattr(checkpoint, "_LEAST_SECONDS", 0.0)  # keep every epoch, however short
    monkeypatch.setattr(checkpoint, "_SHARE_OF_TIME", 1e9)
    told: list[float] = []

    class Killed:
        def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
            if "epoch" in data:
                told.append(float(data["epoch"]))
                if told == [1, 2, 3]:
                    raise KeyboardInterrupt  # nothing catches it, as nothing catches a kill

    text = recipe(
        'algorithm = "cnn"\nlibrary = "keras"\nchannels = [4]\ndropout = 0.3\nepochs = 6\nbatch_size = 64\n'
        f'decay = "cosine"\nearly_stopping = {stopping}',
        prepare="limit = 400\n[prepare.augment]\ncrop = 1",
        gate="",
    )
    alone = train(tools, text)
    tools.checkpoint.unlink()
    with pytest.raises(KeyboardInterrupt):
        train(tools, text, Killed())
    again = train(tools, text, Killed())
    assert told == [1, 2, 3, 4, 5, 6]  # the fourth began with what the third had left
    assert again["digest"] == alone["digest"]
    curves = [tools.runs.get(each["run"]).curve for each in (alone, again)]
    assert [point["loss"] for point in curves[0]] == [point["loss"] for point in curves[1]]
