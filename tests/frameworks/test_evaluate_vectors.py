"""A version that answers vectors is evaluated by its neighbours, through the engine that serves it."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from mofang.base.domain.errors import InvalidDataset, InvalidGate
from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Silent
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.page import report_html
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

WORDS = ("[UNK]", "warm", "fine", "cold", "late", "tea", "the", "is")
RECIPE = 'name = "texts"\n[prepare]\nsource = "csv:{file}"\n[prepare.columns]\nsaid = "text"\n'
RECIPE += '[train]\nalgorithm = "decision_tree"\n'


def encoder(folder: Path, vectors: np.ndarray) -> None:
    """Write an encoder whose states are a table of words, and its tokenizer."""
    folder.mkdir()
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states"])]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids",)]
    states = helper.make_tensor_value_info("states", TensorProto.FLOAT, ["n", "t", vectors.shape[1]])
    graph = helper.make_graph(nodes, "words", ids, [states], [numpy_helper.from_array(vectors, "table")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 32}))


def push(tools: Workshop, folder: Path) -> None:
    entries = [{"path": e.path, "sha256": e.sha256, "size_bytes": e.size_bytes} for e in tools.keep(folder)]
    JOB_KINDS["push"]({"model": folder.name, "files": entries, "engine": "encoder"}, tools, Silent())


def test_good_vectors_find_their_own_label_and_blind_ones_do_not(tools: Workshop, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    moods = {"good": ("warm", "fine"), "bad": ("cold", "late")}
    rows = [f"the tea is {random.choice(moods[mood])} today {n},{mood}" for n, mood in enumerate(["good", "bad"] * 60)]
    (tmp_path / "texts.csv").write_text("said,mood\n" + "\n".join(rows) + "\n")
    recipe = RECIPE.format(file=tmp_path / "texts.csv")
    dataset = JOB_KINDS["prepare"]({"recipe": recipe, "filename": "texts.toml"}, tools, Silent())["dataset"]
    telling = np.zeros((len(WORDS), 3), np.float32)
    telling[1:3, 0], telling[3:5, 1], telling[5:, 2] = 1, 1, 0.1
    encoder(tmp_path / "good", telling)
    encoder(tmp_path / "blind", np.ones((len(WORDS), 3), np.float32))
    found = {}
    for name in ("good", "blind"):
        push(tools, tmp_path / name)
        spec = {"version": name, "dataset": dataset, "gate": "recall_at_1 >= 0.99"}
        result = JOB_KINDS["evaluate"](spec, tools, Silent())
        found[name] = tools.evaluations.get(result["evaluation"])
        assert result["passed"] == (name == "good")
    assert found["good"].report.metrics == {"recall_at_1": 1, "recall_at_5": 1, "recall_at_10": 1, "mrr": 1}
    assert found["blind"].report.metrics["recall_at_1"] < 0.8
    version = tools.registry.get(VersionRef.parse("good"))
    assert "| 1.0000 | 1.0000 | 1.0000 | 1.0000 | 96 |" in model_card(version, dataset, found["good"].report)
    assert "recall at 1" in report_html("good@1", dataset, found["good"].report)
    with pytest.raises(InvalidGate, match="answers vectors"):
        JOB_KINDS["evaluate"]({"version": "good", "dataset": dataset, "gate": "accuracy >= 0.5"}, tools, Silent())
    numbers = JOB_KINDS["prepare"](
        {"recipe": recipe.replace(f"csv:{tmp_path}/texts.csv", "sklearn:iris").partition("[prepare.columns]")[0]
         + '[train]\nalgorithm = "decision_tree"\n', "filename": "iris.toml"}, tools, Silent(),
    )["dataset"]  # fmt: skip
    with pytest.raises(InvalidDataset, match="labelled texts"):
        JOB_KINDS["evaluate"]({"version": "good", "dataset": numbers, "gate": ""}, tools, Silent())
