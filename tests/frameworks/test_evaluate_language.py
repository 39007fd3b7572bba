"""A real language model on given texts: perplexity and multiple choice, through the engine that serves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models import SMOLLM2, fetch
from servers import Server

pytestmark = pytest.mark.timeout(400)  # the model is loaded for every evaluation
Mofang = Callable[..., str]
FACTS = (
    ("The capital of France is", "Paris", "Tuesday", "green"),
    ("The sun rises in the", "east", "bottle", "purple"),
    ("Cats and dogs are", "animals", "numbers", "planets"),
    ("Water is made of hydrogen and", "oxygen", "cheese", "music"),
    ("In winter it is often", "cold", "triangular", "seventeen"),
    ("The opposite of black is", "white", "Germany", "seven"),
    ("We see with our", "eyes", "shoes", "knees"),
    ("One week has seven", "days", "elephants", "oceans"),
)


def _dataset(mofang: Mofang, folder: Path, name: str, lines: list[str], columns: str) -> str:
    (folder / f"{name}.csv").write_text("\n".join(lines))
    recipe = folder / f"{name}.toml"
    recipe.write_text(
        f'name = "{name}"\n[prepare]\nsource = "csv:{folder / name}.csv"\ntest_fraction = 0.5\n'
        f'[prepare.columns]\n{columns}\n[train]\nalgorithm = "logistic_regression"\n'
    )
    return str(json.loads(mofang("prepare", "run", str(recipe), "--json"))["dataset"])


def test_a_model_is_measured_on_choices_and_held_to_a_gate(mofang: Mofang, smol: Server, tmp_path: Path) -> None:
    right = "abc"
    lines = ["question,a,b,c,right"]
    for row, (question, *answers) in enumerate(FACTS * 3):
        place = row % 3  # where the right answer stands
        ordered = [answers[(column - place) % 3] for column in range(3)]
        lines.append(f"{question},{','.join(ordered)},{right[place]}")
    digest = _dataset(mofang, tmp_path, "facts", lines, 'question = "text"')
    found = json.loads(
        mofang("evaluate", "smol@1", "--dataset", digest, "--json", "--html", str(tmp_path / "page.html"),
               "--gate", "perplexity <= 1000 and choice_accuracy >= 0.6")
    )  # fmt: skip
    metrics = found["metrics"]
    assert found["passed"]
    assert metrics["choice_accuracy"] >= 0.6  # by chance: a third
    assert metrics["choice_accuracy_per_byte"] >= 0.6
    assert 1 < metrics["perplexity"] < 1000
    assert "choice accuracy" in (tmp_path / "page.html").read_text()


def test_sense_is_less_perplexing_than_none(mofang: Mofang, smol: Server, tmp_path: Path) -> None:
    sentences = [f"{question} {answer}." for question, answer, *_ in FACTS]
    perplexity = []
    for name, shown in (("sense", sentences), ("none", [" ".join(reversed(each.split())) for each in sentences])):
        lines = ["text,kind", *(f"{text},{'xy'[row % 2]}" for row, text in enumerate(shown))]
        digest = _dataset(mofang, tmp_path, name, lines, 'text = "text"')
        found = json.loads(mofang("evaluate", "smol@1", "--dataset", digest, "--json"))
        perplexity.append(found["metrics"]["perplexity"])
    assert perplexity[0] * 2 < perplexity[1]


def test_an_engine_that_tells_no_probabilities_of_given_texts_is_named(
    mofang: Mofang, smol: Server, tmp_path: Path
) -> None:
    mofang("push", "smol-llama", str(fetch(SMOLLM2)), "--engine", "llamacpp")
    lines = ["text,kind", *(f"the {text} is,{'xy'[row % 2]}" for row, (text, *_) in enumerate(FACTS))]
    digest = _dataset(mofang, tmp_path, "other", lines, 'text = "text"')
    command = [str(Path(sys.executable).with_name("mofang")), "evaluate", "smol-llama@1", "--dataset", digest]
    done = subprocess.run(command, env={**os.environ, "MOFANG_DATA": str(smol.data)}, capture_output=True, text=True)
    assert done.returncode
    assert "engine 'llamacpp' does not tell how likely a given text is" in done.stdout + done.stderr
