"""The engine ``llamacpp`` on the real SmolLM2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from generator_suite import PROMPT, Suite, run, text

from models import SMOLLM2, fetch
from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.generation import Constraint, Sampling
from mofang.base.engines.base import GenerativeEngine
from mofang.base.engines.catalog import load_generator


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerativeEngine]:
    folder = tmp_path_factory.mktemp("smol")
    (folder / "model.gguf").symlink_to(fetch(SMOLLM2))
    loaded = load_generator("llamacpp", folder, {"context": 256, "slots": 4, "cache_mb": 256, "threads": 1})
    yield loaded
    loaded.close()


class TestLlamaCpp(Suite):
    """The suite, on llama.cpp."""

    def test_the_profile_is_the_files_own(self, engine: GenerativeEngine) -> None:
        profile = engine.profile
        assert "<|im_start|>" in profile.chat_template
        assert (profile.slots, profile.eos, profile.bos) == (4, "<|im_end|>", "<|im_start|>")

    def test_a_schema_is_kept_to(self, engine: GenerativeEngine) -> None:
        schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
                  "additionalProperties": False}  # fmt: skip
        wanted = Sampling(max_tokens=60, temperature=0.0, constraint=Constraint("schema", json.dumps(schema)))
        engine.add(90, engine.encode("A city in France as JSON: "), wanted)
        told, failed = run(engine, 90)
        assert failed == {}
        assert list(json.loads(text(told[90]))) == ["city"]

    def test_alternatives_and_what_was_cached_are_told(self, engine: GenerativeEngine) -> None:
        long = engine.encode("A river flows to the sea. " * 30 + PROMPT)
        for number in (91, 92):
            engine.add(number, long, Sampling(max_tokens=2, temperature=0.0, logprobs=3))
            told, _ = run(engine, number)
        first = next(each for delta in told[92] for each in delta.chosen)
        assert len(first.alternatives) == 3
        assert sum(delta.cached_tokens for delta in told[92]) > 100


def test_what_is_damaged_never_reaches_the_library(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(fetch(SMOLLM2).read_bytes()[: 1 << 20])
    with pytest.raises(InvalidModel):
        load_generator("llamacpp", tmp_path)
