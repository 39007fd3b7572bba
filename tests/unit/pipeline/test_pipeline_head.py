"""A classifier on an encoder that somebody pushed: one graph out, which takes what the data holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from watched import Watched

from mofang.base.domain.errors import InvalidModel, VersionNotFound
from mofang.base.domain.names import VersionRef
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

COLOURS = {"red": (200, 30, 40), "green": (30, 190, 60), "blue": (50, 40, 210)}
RECIPE = """
name = "colour"
[prepare]
source = "images:{folder}"
[prepare.normalise]
method = "unit"
[train]
algorithm = "head"
encoder = "{encoder}"
epochs = 40
batch_size = 16
learning_rate = 0.05
[evaluate]
gate = "accuracy >= 0.95"
"""


def encoder(inner: tuple[int | str, ...] = (3, 8, 8), opset: int = 17) -> bytes:
    """Channels first to their means; the names are those that a head uses too."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["label"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["label", "weight"], ["vector"]),
    ]
    graph = helper.make_graph(
        nodes, "encoder", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", *inner])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.array([1, 2, 3], np.float32), "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def picture(colour: tuple[int, int, int], random: np.random.Generator) -> NDArray[np.uint8]:
    noisy = np.array(colour) + random.integers(-25, 25, (8, 8, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(picture(colour, random)).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def push(tools: Workshop, model: bytes) -> None:
    ref = tools.blobs.put([model])
    files = [{"path": "model.onnx", "sha256": ref.sha256, "size_bytes": ref.size_bytes}]
    JOB_KINDS["push"]({"model": "means", "files": files}, tools, Watched())


def train(tools: Workshop, pictures: Path, name: str = "means@1") -> dict[str, object]:
    spec = {"recipe": RECIPE.format(folder=pictures, encoder=name), "filename": "colour.toml"}
    return JOB_KINDS["train"](spec, tools, Watched())


def test_encoder_and_head_become_one_graph_that_takes_files(tools: Workshop, pictures: Path, tmp_path: Path) -> None:
    push(tools, encoder())
    done = train(tools, pictures)
    version = tools.registry.get(VersionRef.parse("colour"))
    assert version.artifact.labels == ("blue", "green", "red")
    assert [entry.path for entry in version.artifact.files] == ["model.onnx"]
    assert version.lineage.parent == tools.registry.get(VersionRef.parse("means")).digest
    assert version.metrics["accuracy"] >= 0.95
    files = np.array([(pictures / name / "3.png").read_bytes() for name in ("red", "blue")], np.object_)
    with tools.engine("onnx", tools.registry.folder(version, tmp_path / "served")) as engine:
        answer = engine.infer({"image": files})
    assert answer["label"].tolist() == [2, 0]
    assert answer["probabilities"].shape == (2, 3)
    assert train(tools, pictures)["digest"] == done["digest"]  # the same bytes


def test_a_quote_of_a_head_counts_its_weights(tools: Workshop, pictures: Path) -> None:
    push(tools, encoder())
    spec = {"recipe": RECIPE.format(folder=pictures, encoder="means@1"), "filename": "colour.toml"}
    assert JOB_KINDS["quote"](spec, tools, Watched())["parameters"] == 3 * 3 + 3


def test_what_makes_no_vectors_is_refused(tools: Workshop, pictures: Path) -> None:
    model = onnx.load_from_string(encoder())
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "d"
    model.graph.node[1].input[1] = "label"  # so that nothing tells how wide it is
    del model.graph.node[0].attribute[:]
    model.graph.node[0].op_type = "Flatten"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    push(tools, model.SerializeToString())
    with pytest.raises(InvalidModel, match="makes no vectors"):
        train(tools, pictures)


def test_an_encoder_that_is_not_there_is_told(tools: Workshop, pictures: Path) -> None:
    push(tools, encoder())
    with pytest.raises(VersionNotFound):
        train(tools, pictures, "means@7")
