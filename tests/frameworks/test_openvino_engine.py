"""The engine ``openvino`` on the real SmolLM2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from generator_suite import GREEDY, PROMPT, Suite, run, text

from models import SMOLLM2, fetch
from mofang.base.domain.errors import InvalidModel, InvalidOption, InvalidParameter, Overloaded
from mofang.base.domain.generation import Constraint, Sampling
from mofang.base.engines import openvino
from mofang.base.engines.base import Conversational, GenerativeEngine, Scoring
from mofang.base.engines.catalog import load_generator
from mofang.base.engines.openvino import OpenVinoEngine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerativeEngine]:
    loaded = _load(tmp_path_factory.mktemp("smol"))
    yield loaded
    loaded.close()


def _load(folder: Path) -> GenerativeEngine:
    (folder / "model.gguf").symlink_to(fetch(SMOLLM2))
    loaded = load_generator("openvino", folder, {"context": 256, "slots": 4, "cache_mb": 128})
    assert not isinstance(loaded, Conversational)
    return loaded


class TestOpenVino(Suite):
    """The suite, on OpenVINO."""

    def test_the_profile_is_the_files_own(self, engine: GenerativeEngine) -> None:
        profile = engine.profile
        assert "<|im_start|>" in profile.chat_template
        assert (profile.slots, profile.eos) == (4, "<|im_end|>")
        assert profile.cache_tokens >= 4 * 256

    def test_a_schema_and_an_expression_are_kept_to(self, engine: GenerativeEngine) -> None:
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
                  "additionalProperties": False}  # fmt: skip
        wanted = Sampling(max_tokens=60, temperature=0.0, constraint=Constraint("schema", json.dumps(schema)))
        engine.add(90, engine.encode("A city in France as JSON: "), wanted)
        engine.add(
            91, engine.encode("Is it true? "), Sampling(temperature=0.0, constraint=Constraint("regex", "yes|no"))
        )
        told, failed = run(engine, 90, 91)
        assert failed == {}
        assert list(json.loads(text(told[90]))) == ["city"]
        assert text(told[91]) in ("yes", "no")

    def test_a_constraint_that_cannot_be_read_fails_alone(self, engine: GenerativeEngine) -> None:
        engine.add(92, engine.encode(PROMPT), GREEDY)
        while not engine.step()[0]:
            pass
        engine.add(93, engine.encode(PROMPT), Sampling(max_tokens=4, constraint=Constraint("schema", '{"type": "z"}')))
        told, failed = run(engine, 92, 93)
        assert isinstance(failed.pop(93), InvalidParameter)
        assert failed == {}
        assert sum(delta.tokens for delta in told[92]) == 7  # one was said before

    def test_given_tokens_are_as_likely_as_when_they_were_said(self, tmp_path: Path) -> None:
        engine = _load(tmp_path)  # its own: one that scores gives up its cache of prompts
        assert isinstance(engine, Scoring)
        prompt = [*engine.encode("word " * 120, opening=True), *engine.encode(PROMPT)]
        engine.add(94, prompt, Sampling(max_tokens=12, temperature=0.0, logprobs=0))
        told, _ = run(engine, 94)
        said = [each.logprob for delta in told[94] for each in delta.chosen]
        tokens = [*prompt, *engine.encode(text(told[94]))]
        assert len(tokens) == len(prompt) + len(said)
        short = engine.encode("Paris is the capital of France.", opening=True)
        for _ in range(2):  # what was read before is told again, not found in a cache
            long, alone = engine.score([tokens, short])
            assert (len(long), len(alone)) == (len(tokens) - 1, len(short) - 1)
            assert long[-len(said) :] == pytest.approx(said, abs=0.7)  # the cache of keys and values is rounded
        strange = engine.score([engine.encode("Paris of the is France capital.", opening=True)])[0]
        assert sum(strange) < sum(alone) - 5
        engine.add(95, engine.encode(PROMPT), GREEDY)  # and it speaks as before
        assert "Paris" in text(run(engine, 95)[0][95])
        engine.close()


def test_compiled_formats_are_bounded_and_others_go_on(engine: OpenVinoEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "MOST_GRAMMARS", 2)
    prompt = engine.encode(PROMPT)
    engine.add(100, prompt, Sampling(max_tokens=40, temperature=0.0))
    alone = text(run(engine, 100)[0][100])
    engine.add(101, prompt, Sampling(max_tokens=40, temperature=0.0))
    said = ""
    for number in range(4):  # each a format of its own; the library would keep them all
        limited = Sampling(max_tokens=2, temperature=0.0, constraint=Constraint("regex", f"yes{number}|no"))
        engine.add(110 + number, prompt, limited)
        told, failed = run(engine, 110 + number)
        assert failed == {}
        said += text(told.get(101, []))
        assert engine.grammars <= 2
    said += text(run(engine, 101)[0][101])
    assert said[:60] == alone[:60]  # it went on where it was
    for number in range(120, 124):  # while such streams are computed it cannot begin anew: twice as many are kept
        held = Sampling(max_tokens=200, temperature=0.0, constraint=Constraint("regex", f"[a-z{number - 120} ]+"))
        engine.add(number, prompt, held)
    assert engine.grammars == 4
    with pytest.raises(Overloaded, match="formats"):
        engine.add(124, prompt, Sampling(constraint=Constraint("regex", "another")))
    for number in range(120, 124):
        engine.cancel(number)
    engine.step()


def test_what_is_damaged_never_reaches_the_library(tmp_path: Path) -> None:
    whole = fetch(SMOLLM2).read_bytes()
    for name, content in (
        ("cut", whole[: 1 << 20]),
        ("none", b"no model"),
        ("counts", whole[:8] + b"\xff" * 16 + whole[24:]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.gguf").write_bytes(content)
        with pytest.raises(InvalidModel):
            load_generator("openvino", folder)
    with pytest.raises(InvalidModel):
        load_generator("openvino", tmp_path)
    with pytest.raises(InvalidOption, match="colour"):
        load_generator("openvino", tmp_path, {"colour": 1})
