import numpy as np
import yaml

from mofang.base.domain.registry import Artifact, FileEntry, Lineage, ModelVersion
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.metrics import score
from mofang.make.evaluate.report import Report


def _version() -> ModelVersion:
    signature = Signature(
        (TensorSpec("features", "FP32", (-1, 64)),),
        (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
    )
    artifact = Artifact("onnx", (FileEntry("model.onnx", "ab" * 32, 12_345),), signature, ("a", "b|c", "d"))
    lineage = Lineage("train", run="run_1", dataset="sha256:dd", recipe="sha256:ee", code="mofang 0.1.0")
    return ModelVersion("digits", 3, artifact.digest, artifact, lineage, 1_700_000_000_000_000)


def test_the_card_tells_what_the_model_is_and_where_it_errs() -> None:
    scores = score(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 1, 2, 1]), ("a", "b|c", "d"))
    card = model_card(_version(), 'sklearn:"digits"', Report(scores, 0.5, "accuracy >= 0.9", ("accuracy 0.67 < 0.9",)))
    _, head, body = card.split("---\n", 2)

    metadata = yaml.safe_load(head)
    assert metadata["model_name"] == "digits@3"
    result = metadata["model-index"][0]["results"][0]
    assert result["dataset"]["name"] == 'sklearn:"digits"'
    assert {entry["name"]: entry["value"] for entry in result["metrics"]}["accuracy"] == 0.666667

    assert "registered 2023-11-14 22:13 UTC" in body
    assert "| input | `features: [n, 64] FP32` |" in body
    assert "| engine | onnx, 12,345 bytes |" in body
    assert "Gate `accuracy >= 0.9`: failed." in body
    assert "- accuracy 0.67 < 0.9" in body
    assert "| b\\|c | 0.5000 | 1.0000 | 0.6667 | 2 |" in body
    assert "- d taken for b\\|c: 1 of 2" in body


def test_a_model_without_mistakes_claims_nothing_more() -> None:
    scores = score(np.array([0, 1]), np.array([0, 1]), ("a", "b"))
    card = model_card(_version(), "d", Report(scores, 0.5))
    assert "that says little of other data" in card
    assert "Gate" not in card
