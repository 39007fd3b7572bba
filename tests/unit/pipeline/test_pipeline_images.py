"""From a folder of pictures to a version that takes pictures: what training saw is what serving sees."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from watched import Watched

from mofang.base.domain.errors import ConversionFailed, TensorData
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.prepare.dataset import load_split
from mofang.make.workshop import Workshop

RECIPE = """
name = "shapes"
[prepare]
source = "images:{folder}"
size = [12, 16]
[prepare.normalise]
method = "standard"
[prepare.augment]
flip = 0.5
[train]
algorithm = "{algorithm}"
[evaluate]
gate = "accuracy >= 0.9"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Upright and lying bars in noise, of several sizes and formats."""
    random = np.random.default_rng(0)
    for name in ("lying", "upright"):
        (tmp_path / "shapes" / name).mkdir(parents=True)
        for i in range(40):
            picture = random.integers(0, 60, (24 + i % 5, 30 + i % 3, 3))
            place = int(random.integers(6, 14))
            picture[
                (slice(place, place + 5), slice(None)) if name == "lying" else (slice(None), slice(place, place + 5))
            ] += 180
            suffix = ("png", "jpg")[i % 2]
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "shapes" / name / f"{i}.{suffix}")
    return tmp_path / "shapes"


@pytest.mark.parametrize("algorithm", ["mlp", "random_forest"])
def test_a_version_made_of_pictures_takes_pictures(
    tools: Workshop, progress: Watched, folder: Path, algorithm: str
) -> None:
    recipe = RECIPE.format(folder=folder, algorithm=algorithm)
    JOB_KINDS["train"]({"recipe": recipe, "filename": "shapes.toml"}, tools, progress)
    version = tools.registry.get(VersionRef.parse("shapes@1"))
    assert str(version.artifact.signature.inputs[0]) == "image: [n] BYTES"
    (run,) = tools.runs.list()
    assert (run.conversion["passed"], run.conversion["missing"]) == (True, "refused")
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        assert engine.signature == version.artifact.signature
        files = [path.read_bytes() for path in sorted(folder.rglob("*.*"))]
        label = engine.infer({"image": np.array(files, np.object_)})["label"]
        assert (label == [0] * 40 + [1] * 40).mean() > 0.9
        text = np.array([base64.b64encode(files[0])], np.object_)
        assert engine.infer({"image": text})["label"][0] == label[0]
        with pytest.raises(TensorData, match="row 1 of input 'image' is no PNG or JPEG"):
            engine.infer({"image": np.array([files[0], b"no picture"], np.object_)})
        with pytest.raises(TensorData, match="row 0 of input 'image' is damaged"):
            engine.infer({"image": np.array([files[1][:400]], np.object_)})

    again = JOB_KINDS["evaluate"]({"version": "shapes@1", "dataset": "", "gate": ""}, tools, progress)
    assert tools.evaluations.get(again["evaluation"]).report.metrics == version.metrics


def test_the_graph_takes_pixels_where_the_recipe_says_so(tools: Workshop, progress: Watched, folder: Path) -> None:
    recipe = RECIPE.format(folder=folder, algorithm="mlp") + '[convert]\ninput = "numbers"\n'
    JOB_KINDS["train"]({"recipe": recipe, "filename": "shapes.toml"}, tools, progress)
    version = tools.registry.get(VersionRef.parse("shapes@1"))
    assert str(version.artifact.signature.inputs[0]) == "features: [n, 576] FP32"
    dataset = tools.datasets.get(version.lineage.dataset)
    features, truth = load_split(tools.blobs, dataset, "test")
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        assert (engine.infer({"features": features})["label"] == truth).mean() == pytest.approx(
            version.metrics["accuracy"]
        )


def test_pixels_that_came_without_files_can_be_asked_with_files(tools: Workshop, progress: Watched) -> None:
    recipe = """
        name = "digits"
        [prepare]
        source = "sklearn:digits"
        [train]
        algorithm = "logistic_regression"
        [convert]
        input = "image"
    """
    JOB_KINDS["train"]({"recipe": recipe, "filename": "digits.toml"}, tools, progress)
    version = tools.registry.get(VersionRef.parse("digits@1"))
    assert version.metrics["accuracy"] > 0.9
    order = {"version": "digits@1", "max_drop": 1.0, "trials": 2, "objective": "size"}
    for variant in JOB_KINDS["compress"](order, tools, progress)["variants"]:
        assert variant["comparison"]["quality"]["rows"] == 359
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file, "PNG")
    with tools.folder() as root, tools.engine("onnx", tools.registry.folder(version, root)) as engine:
        assert engine.infer({"image": np.array([file.getvalue()], np.object_)})["label"].shape == (1,)


def test_rows_cannot_be_asked_with_pictures(tools: Workshop, progress: Watched) -> None:
    recipe = """
        name = "iris"
        [prepare]
        source = "sklearn:iris"
        [train]
        algorithm = "decision_tree"
        [convert]
        input = "image"
    """
    with pytest.raises(ConversionFailed, match="the data are no images"):
        JOB_KINDS["train"]({"recipe": recipe, "filename": "iris.toml"}, tools, progress)


def test_scaled_rows_are_served_raw(tools: Workshop, progress: Watched) -> None:
    recipe = """
        name = "iris"
        [prepare]
        source = "sklearn:iris"
        normalise = {method = "unit"}
        [train]
        algorithm = "logistic_regression"
        epochs = 50
        learning_rate = 0.1
    """
    JOB_KINDS["train"]({"recipe": recipe, "filename": "iris.toml"}, tools, progress)
    version = tools.registry.get(VersionRef.parse("iris@1"))
    assert version.metrics["accuracy"] > 0.8
    assert str(version.artifact.signature.inputs[0]) == "features: [n, 4] FP32"
