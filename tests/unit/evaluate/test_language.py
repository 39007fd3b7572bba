"""Language models on given texts: perplexity and choices, with an engine whose probabilities are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from mofang.base.domain.errors import InvalidDataset, InvalidGate, InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.registry import Artifact, Lineage, ModelVersion
from mofang.base.domain.work import Silent
from mofang.base.storage.blobs import DiskBlobs
from mofang.make.evaluate.card import model_card
from mofang.make.evaluate.gate import parse_gate
from mofang.make.evaluate.language import evaluate_language
from mofang.make.evaluate.page import report_html
from mofang.make.evaluate.report import LanguageScores, Report
from mofang.make.prepare.dataset import Examples, load_examples
from mofang.make.prepare.prepare import prepare
from mofang.make.recipe import Prepare
from scripted_generator import ScriptedGenerator

Read = Callable[..., Examples]
QUESTIONS = {"question": "text"}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write lines as CSV, and return all that is held out."""

    def run(lines: list[str], **settings: object) -> Examples:
        (tmp_path / "rows.csv").write_text("\n".join(lines))
        blobs = DiskBlobs(tmp_path / "blobs")
        spec = Prepare(source=f"csv:{tmp_path / 'rows.csv'}", test_fraction=0.5, **settings)  # type: ignore[arg-type]
        return load_examples(blobs, prepare(spec, blobs, Silent()), split="test")

    return run


def _report(engine: object, test: Examples, gate: str = "") -> Report:
    return evaluate_language(engine, test, parse_gate(gate), Silent(), "scripted")  # type: ignore[arg-type]


def test_perplexity_is_that_of_the_tokens_the_engine_tells_of(read: Read) -> None:
    lines = [f"ab {'cd' if row % 2 else 'DE'},{'xy'[row % 2]}" for row in range(40)]
    test = read(["text,kind", *lines], columns={"text": "text"})
    report = _report(ScriptedGenerator(), test, "perplexity <= 4 and bits_per_byte <= 2")
    assert isinstance(report.scores, LanguageScores)
    # A small letter has 1/e^0.25, any other character 1/e^2; the first of each text is not asked for.
    mean = (4 * 0.25 + (2 * 0.25 + 2 * 2)) / 2 / 4
    assert report.scores.tokens == 20 * 4
    assert report.scores.perplexity == pytest.approx(math.exp(mean))
    assert report.scores.bits_per_byte == pytest.approx(mean * 4 / 5 / math.log(2))
    assert report.scores.choice_accuracy is None
    assert report.passed
    low, high = report.intervals["perplexity"]
    assert low <= report.scores.perplexity <= high
    assert _report(ScriptedGenerator(), test, "perplexity <= 1.5").failures == ("perplexity 1.989 > 1.5",)


def test_the_most_probable_answer_is_chosen(read: Read) -> None:
    lines = [f"what is {row}?,small,BIG,{'a' if row % 4 else 'b'}" for row in range(80)]
    test = read(["question,a,b,right", *lines], columns=QUESTIONS)
    report = _report(ScriptedGenerator(), test, "choice_accuracy >= 0.7 and perplexity <= 20")
    assert isinstance(report.scores, LanguageScores)
    assert report.scores.choice_accuracy == pytest.approx(0.75)
    assert report.scores.choice_accuracy_per_byte == pytest.approx(0.75)
    assert report.passed
    assert {each.truth for each in report.mistakes} == {"BIG"}
    assert {each.answered for each in report.mistakes} == {"small"}
    page = report_html("m", "sha256:0", report)
    assert "choice accuracy" in page
    assert "what is" in page
    artifact = Artifact("openvino", (), TEXT_SIGNATURE)
    card = model_card(ModelVersion("smol", 1, "sha256:aa", artifact, Lineage("push"), 0), "sha256:0", report)
    assert "pipeline_tag: text-generation" in card
    assert "| perplexity | bits_per_byte | choice_accuracy |" in card


def test_a_long_answer_is_not_at_a_disadvantage_by_the_byte(read: Read) -> None:
    lines = [f"what is {row}?,a very long answer,NO,{'a' if row % 2 else 'b'}" for row in range(40)]
    scores = _report(ScriptedGenerator(), read(["question,a,b,right", *lines], columns=QUESTIONS)).scores
    assert isinstance(scores, LanguageScores)
    assert scores.choice_accuracy == scores.choice_accuracy_per_byte == 0.5
    longer = [f"what is {row}?,{'a very long answer' * 2},NO,{'a' if row % 10 else 'b'}" for row in range(80)]
    scores = _report(ScriptedGenerator(), read(["question,a,b,right", *longer], columns=QUESTIONS)).scores
    assert isinstance(scores, LanguageScores)
    assert scores.choice_accuracy is not None
    assert scores.choice_accuracy_per_byte is not None
    assert scores.choice_accuracy < 0.2 < 0.8 < scores.choice_accuracy_per_byte


def test_a_text_longer_than_the_context_is_cut(read: Read) -> None:
    test = read(
        ["text,kind", *(f"{'word ' * 100}{row},{'xy'[row % 2]}" for row in range(20))], columns={"text": "text"}
    )
    scores = _report(ScriptedGenerator(context=200), test).scores
    assert isinstance(scores, LanguageScores)
    assert scores.rows * 100 < scores.tokens < scores.rows * 200


def test_what_cannot_be_measured_is_said(read: Read) -> None:
    texts = read(["text,kind", *(f"abc {row},{'xy'[row % 2]}" for row in range(20))], columns={"text": "text"})
    numbers = read(["a,kind", *(f"{row}.5,{'xy'[row % 2]}" for row in range(20))])
    with pytest.raises(InvalidDataset, match="one column of texts; this data has 0"):
        _report(ScriptedGenerator(), numbers)
    with pytest.raises(InvalidGate, match="'choice_accuracy', but the version is measured on texts without choices"):
        _report(ScriptedGenerator(), texts, "choice_accuracy >= 0.4")
    with pytest.raises(InvalidGate, match="'accuracy', but the version goes on with texts"):
        _report(ScriptedGenerator(), texts, "accuracy >= 0.4")
    with pytest.raises(InvalidModel, match="engine 'scripted' does not tell how likely a given text is"):
        _report(object(), texts)
