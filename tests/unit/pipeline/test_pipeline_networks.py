"""A network, from recipe to version, and back from the version to the network."""

from pathlib import Path

import numpy as np
import pytest
from watched import Watched

from mofang.base.domain.errors import NoNetwork
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import load_split
from mofang.make.train.torch.network import load_network
from mofang.make.train.torch.train import answers
from mofang.make.workshop import Workshop

RECIPE = """
name = "digits"
[prepare]
source = "sklearn:digits"
limit = 800
[train]
{train}
"""
NETWORK = 'algorithm = "cnn"\nchannels = [8]\nhidden = [32]\nepochs = 3\nlearning_rate = 0.01'


def run(tools: Workshop, train: str) -> str:
    """Run a recipe; return the version it made."""
    result = JOB_KINDS["train"]({"recipe": RECIPE.format(train=train), "filename": "digits.toml"}, tools, Watched())
    return f"{result['model']}@{result['version']}"


def test_a_version_gives_back_the_network_it_was_made_of(tools: Workshop) -> None:
    import torch

    version = tools.registry.get(VersionRef.parse(run(tools, NETWORK)))
    made = tools.runs.get(version.lineage.run)
    assert "torch 2." in made.code
    assert made.provenance["machine"]["cores"] >= 1
    assert made.provenance["packages"]["torch"].startswith("2.")
    net = load_network(version, tools.runs, tools.blobs)
    rows, target = load_split(tools.blobs, tools.datasets.get(version.lineage.dataset), "test")
    accuracy = float((answers(net, torch.from_numpy(rows)).argmax(dim=1).numpy() == target).mean())
    assert accuracy == pytest.approx(version.metrics["accuracy"])
    assert np.isfinite(made.curve[-1]["train_loss"])


def test_a_version_that_is_no_network_says_so(tools: Workshop) -> None:
    version = tools.registry.get(VersionRef.parse(run(tools, 'algorithm = "decision_tree"')))
    with pytest.raises(NoNetwork, match="digits@1"):
        load_network(version, tools.runs, tools.blobs)


def test_a_quote_makes_no_model_and_is_kept_beside_what_came(tools: Workshop) -> None:
    job = {"recipe": RECIPE.format(train=NETWORK), "filename": "digits.toml"}
    quote = JOB_KINDS["quote"](job, tools, Watched())
    assert tools.registry.list_models() == []
    assert quote["parameters"] == 8 * 9 + 16 + 8 * 16 * 32 + 32 + 32 * 10 + 10
    JOB_KINDS["train"](job, tools, Watched())
    (made,) = tools.runs.list()
    assert made.estimate["seconds"] == quote["seconds"] > 0
    assert made.estimate["actual_seconds"] == made.seconds > 0
    assert made.estimate["actual_memory_bytes"] > 50 << 20


def test_a_search_keeps_its_trials_with_the_run(tools: Workshop) -> None:
    recipe = RECIPE.format(train=NETWORK) + "\n[search]\ntrials = 2\n[search.space]\nchannels = [[4], [8]]\n"
    result = JOB_KINDS["train"]({"recipe": recipe, "filename": "digits.toml"}, tools, Watched())
    trials = tools.runs.get(result["run"]).trials
    assert len(trials) == 2
    assert {"keys", "state", "loss", "seconds"} <= set(trials[0])


TEXTS = """
name = "moods"
[prepare]
source = "csv:{file}"
target = "mood"
[prepare.columns]
said = "text"
[prepare.encode]
text = "tokens"
length = 6
[train]
{train}
epochs = 12
batch_size = 16
learning_rate = 0.01
[evaluate]
gate = "accuracy >= 0.9"
"""


@pytest.mark.parametrize(
    "train", ['algorithm = "rnn"\nwidth = 16', 'algorithm = "transformer"\nwidth = 16\nlayers = 1']
)
def test_networks_learn_texts_and_are_served_with_them(tools: Workshop, tmp_path: Path, train: str) -> None:
    random = np.random.default_rng(0)
    words = {"good": ("fine", "lovely", "warm"), "bad": ("cold", "awful", "late")}
    rest = ("", " tea", " is", " was the day")
    rows = [
        f"the {random.choice(words[mood])}{random.choice(rest)},{mood}" for mood in random.choice(["good", "bad"], 240)
    ]
    file = tmp_path / "moods.csv"
    file.write_text("\n".join(["said,mood", *rows]) + "\n", "utf-8")
    recipe = TEXTS.format(file=file, train=train)
    result = JOB_KINDS["train"]({"recipe": recipe, "filename": "moods.toml"}, tools, Watched())
    version = tools.registry.get(VersionRef.parse(f"moods@{result['version']}"))
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        assert engine.signature.inputs[0].datatype == "BYTES"
        said = np.array([[b"the awful tea"], [b"the lovely tea"], [b""]], object)
        answers = engine.infer(
            {engine.signature.inputs[0].name: said.reshape(-1, *engine.signature.inputs[0].shape[1:])}
        )
    labels = [version.artifact.labels[index] for index in answers["label"][:2]]
    assert labels == ["bad", "good"]
    assert np.isfinite(answers["probabilities"]).all()
