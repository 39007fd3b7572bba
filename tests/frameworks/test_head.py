"""A classifier on MiniLM: texts in, classes out, and it knows words that no training row had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import MINILM_INT8, MINILM_TOKENIZER, fetch
from mofang.base.domain.names import VersionRef
from mofang.base.domain.work import Silent
from mofang.make.pipeline import JOB_KINDS
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.filterwarnings("ignore")
ANIMALS = ("dog", "cat", "horse", "sheep", "goat", "rabbit", "cow", "mouse", "donkey", "hen")
MACHINES = ("lathe", "tractor", "printer", "crane", "turbine", "drill", "pump", "engine", "loom", "press")
SENTENCES = (
    "We saw a {} near the old house today", "Nobody knew how long the {} had been there",
    "My uncle bought another {} last week", "The {} makes a lot of noise in the morning",
)  # fmt: skip
RECIPE = """
name = "topic"
[prepare]
source = "csv:{data}"
target = "topic"
[prepare.columns]
text = "text"
[train]
algorithm = "head"
encoder = "minilm@1"
tokens = 16
epochs = 60
batch_size = 16
learning_rate = 0.02
[evaluate]
gate = "accuracy >= 0.9"
"""


@pytest.mark.trains("head")
def test_a_head_on_a_text_encoder_answers_classes_of_texts(tools: Workshop, tmp_path: Path) -> None:
    files = []
    for name, pinned in (("model.onnx", MINILM_INT8), ("tokenizer.json", MINILM_TOKENIZER)):
        ref = tools.blobs.put_file(fetch(pinned))
        files.append({"path": name, "sha256": ref.sha256, "size_bytes": ref.size_bytes})
    JOB_KINDS["push"]({"model": "minilm", "files": files, "engine": "encoder"}, tools, Silent())
    lines = ["text,topic"]
    for topic, words in (("animal", ANIMALS), ("machine", MACHINES)):
        lines += [f"{sentence.format(word)},{topic}" for word in words for sentence in SENTENCES]
    (tmp_path / "topics.csv").write_text("\n".join(lines))
    JOB_KINDS["train"]({"recipe": RECIPE.format(data=tmp_path / "topics.csv"), "filename": "t.toml"}, tools, Silent())

    version = tools.registry.get(VersionRef.parse("topic"))
    assert version.artifact.engine == "encoder"
    assert [spec.name for spec in version.artifact.signature.outputs] == ["label", "probabilities", "input_tokens"]
    assert version.artifact.labels == ("animal", "machine")
    texts = np.array(
        [b"The pig makes a lot of noise in the morning", b"My uncle bought another motor last week"], np.object_
    )
    with tools.engine("encoder", tools.registry.folder(version, tmp_path / "served")) as engine:
        answer = engine.infer({"text": texts})
    assert [version.artifact.labels[each] for each in answer["label"]] == ["animal", "machine"]
    assert answer["input_tokens"].tolist() == [12, 9]
    with tools.engine("encoder", tools.registry.folder(version, tmp_path / "again")) as engine:
        long = engine.infer({"text": np.array([texts[0] + b" and on" * n for n in (40, 200_000)], np.object_)})
    assert long["input_tokens"].tolist() == [16, 16]  # as in training: what follows is left out
    assert long["probabilities"][0].tolist() == long["probabilities"][1].tolist()
    evaluation = JOB_KINDS["evaluate"]({"version": "topic@1", "dataset": "", "gate": ""}, tools, Silent())
    assert tools.evaluations.get(evaluation["evaluation"]).report.metrics["accuracy"] >= 0.9
