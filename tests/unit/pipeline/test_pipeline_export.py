"""What leaves the house is run by its own code and answers as what is served; what cannot leave says why."""

import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from PIL import Image
from watched import Watched

from mofang.base.domain.errors import NoExport, ParityFailed
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

RECIPE = """
name = "digits"
[prepare]
source = "sklearn:digits"
limit = 300
normalise = { method = "unit" }
[train]
algorithm = "dense"
hidden = [16]
epochs = 2
seed = {seed}
"""
FOREST = """
name = "forest"
[prepare]
source = "sklearn:iris"
[train]
algorithm = "random_forest"
trees = 5
[convert]
format = "skops"
"""
MOODS = """
name = "moods"
[prepare]
source = "csv:{file}"
columns = { said = "text", age = "number" }
[prepare.encode]
text = "words"
vocabulary = 20
[train]
algorithm = "dense"
hidden = [8]
epochs = 2
"""
PICTURES = """
name = "shades"
[prepare]
source = "images:{folder}"
size = [6, 6]
[train]
algorithm = "logistic_regression"
epochs = 2
"""


def train(tools: Workshop, recipe: str) -> str:
    made = JOB_KINDS["train"]({"recipe": recipe, "filename": "recipe.toml"}, tools, Watched())
    return f"{made['model']}@{made['version']}"


def export(tools: Workshop, version: str, to: str, folder: Path, licence: str = "") -> dict[str, Any]:
    """Export and unpack; return the job's result."""
    result = JOB_KINDS["export"]({"version": version, "to": to, "licence": licence}, tools, Watched())
    with zipfile.ZipFile(io.BytesIO(tools.blobs.read(result["archive"]))) as packed:
        assert sorted(packed.namelist()) == sorted(each["path"] for each in result["files"])
        packed.extractall(folder)
    return result


def answer(folder: Path) -> dict[str, Any]:
    """Run what was exported, somewhere else, as its README says."""
    command = [sys.executable, "-W", "ignore", "predict.py", "example.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=100)
    return {each["name"]: each for each in json.loads(done.stdout)["outputs"]}


def test_a_network_leaves_as_each_framework_reads_it(tools: Workshop, tmp_path: Path) -> None:
    version = train(tools, RECIPE.replace("{seed}", "0"))
    for to, file in (("onnx", "onnx"), ("torch", "pt2"), ("torchscript", "pt"), ("safetensors", "safetensors")):
        out = tmp_path / to
        found = export(tools, version, to, out, licence="Apache-2.0")
        assert (found["parity"]["rows"], found["to"]) == (61, to)  # sixty at once, and one alone
        assert found["parity"]["max_difference"] < 1e-5
        names = {path.name for path in out.iterdir()}
        assert names >= {f"model.{file}", "README.md", "loader.py", "requirements.txt", "example.json"}
        card = (out / "README.md").read_text()
        assert 'license: "Apache-2.0"' in card
        assert "answered as the served model" in card
        assert "macro average" in card  # the evaluation is part of it
    expected = {each["name"]: each for each in json.loads((out / "example.answer.json").read_text())["outputs"]}
    np.testing.assert_allclose(answer(out)["probabilities"]["data"], expected["probabilities"]["data"], atol=1e-5)


def test_an_export_that_answers_otherwise_does_not_leave(tools: Workshop) -> None:
    first, second = (train(tools, RECIPE.replace("{seed}", seed)) for seed in "01")
    runs = [tools.runs.get(tools.registry.get(VersionRef.parse(each)).lineage.run) for each in (first, second)]
    tools.runs.save(replace(runs[0], network=runs[1].network))
    with pytest.raises(ParityFailed, match=r"answers \d+ of \d+ rows differently"):
        JOB_KINDS["export"]({"version": first, "to": "torchscript", "licence": ""}, tools, Watched())


def test_a_table_leaves_after_its_preparation_and_says_so(tools: Workshop, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    good, bad = ("fine", "warm"), ("cold", "late")
    rows = [f"it is {random.choice(good)} tea,{n},good\nit was {random.choice(bad)} tea,{n},bad" for n in range(60)]
    (tmp_path / "moods.csv").write_text("said,age,mood\n" + "\n".join(rows) + "\n")
    version = train(tools, MOODS.replace("{file}", str(tmp_path / "moods.csv")))
    export(tools, version, "torchscript", tmp_path / "out")
    assert "preparation of the data is inside the graph of `--to onnx`" in (tmp_path / "out" / "README.md").read_text()
    given = json.loads((tmp_path / "out" / "example.json").read_text())["inputs"]
    assert [(each["name"], each["datatype"]) for each in given] == [("features", "FP32")]
    export(tools, version, "onnx", tmp_path / "whole")
    given = json.loads((tmp_path / "whole" / "example.json").read_text())["inputs"]
    assert [each["name"] for each in given] == ["said", "age"]
    assert answer(tmp_path / "whole")["label"]["shape"] == [2]


def test_scikit_learn_leaves_as_skops_and_not_as_a_network(tools: Workshop, tmp_path: Path) -> None:
    version = train(tools, FOREST)
    export(tools, version, "native", tmp_path / "out")
    assert (tmp_path / "out" / "model.skops").exists()
    assert answer(tmp_path / "out")["probabilities"]["shape"] == [2, 3]
    for to, why in (
        ("onnx", "'sklearn'"),
        ("torch", "trained here"),
        ("gguf", "no language model"),
        ("keras", "Keras"),
    ):
        with pytest.raises(NoExport, match=why):
            JOB_KINDS["export"]({"version": version, "to": to, "licence": ""}, tools, Watched())


def test_what_was_pushed_leaves_as_it_came(tools: Workshop, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 3)).astype(np.float32)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(rows, rows[:, 0] > 0), 5)
    pushed = bytes(booster.save_raw("ubj"))
    ref = tools.blobs.put([pushed])
    files = [{"path": "churn.ubj", "sha256": ref.sha256, "size_bytes": ref.size_bytes}]
    JOB_KINDS["push"]({"model": "churn", "files": files}, tools, Watched())
    found = export(tools, "churn@1", "original", tmp_path / "out")
    assert (tmp_path / "out" / "churn.ubj").read_bytes() == pushed
    assert "bytes are those" in found["parity"]["said"]
    assert "It was not evaluated here." in (tmp_path / "out" / "README.md").read_text()
    export(tools, "churn@1", "onnx", tmp_path / "onnx")
    assert answer(tmp_path / "onnx")["label"]["datatype"] == "INT64"
    with pytest.raises(NoExport, match="`--to original` gives that"):
        JOB_KINDS["export"]({"version": "churn@1", "to": "torch", "licence": ""}, tools, Watched())


def test_a_model_of_pictures_leaves_with_what_decodes_them(tools: Workshop, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(40):
        name = ("dark", "light")[number % 2]
        (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 90, (9, 7, 3)) + 150 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / name / f"{number}.png")
    version = train(tools, PICTURES.replace("{folder}", str(tmp_path / "pictures")))
    export(tools, version, "onnx", tmp_path / "out")
    assert (tmp_path / "out" / "pictures.py").exists()
    assert set(answer(tmp_path / "out")) == {"label", "probabilities"}
