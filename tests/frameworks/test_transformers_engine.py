"""The engine ``transformers`` on the real SmolLM2, written as a folder of safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import peft
import pytest
import torch
import transformers
from generator_suite import GREEDY, PROMPT, Suite, run, text
from language_folders import lora, smollm2, tiny_llama

from mofang.base.domain.errors import EngineLoadFailed, InvalidModel, InvalidOption
from mofang.base.domain.generation import Sampling
from mofang.base.engines.base import GenerativeEngine
from mofang.base.engines.catalog import load_generator

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft and transformers are not always in step


@pytest.fixture(scope="module")
def engine() -> Iterator[GenerativeEngine]:
    loaded = load_generator("transformers", smollm2(), {"context": 256, "slots": 4, "cache_mb": 256, "threads": 1})
    yield loaded
    loaded.close()


class TestTransformers(Suite):
    """The suite, on PyTorch."""

    def test_the_profile_is_the_folders_own(self, engine: GenerativeEngine) -> None:
        profile = engine.profile
        assert "<|im_start|>" in profile.chat_template
        assert (profile.slots, profile.eos, profile.bos) == (4, "<|im_end|>", "<|im_start|>")
        assert profile.cache_tokens == 4 * 256

    def test_alternatives_are_told(self, engine: GenerativeEngine) -> None:
        engine.add(90, engine.encode(PROMPT), Sampling(max_tokens=3, temperature=0.0, logprobs=2))
        told, _ = run(engine, 90)
        for each in (each for delta in told[90] for each in delta.chosen):
            assert each.alternatives[0] == (each.text, each.logprob)
            assert each.alternatives[0][1] >= each.alternatives[1][1]

    def test_streams_join_and_leave_in_the_middle(self, engine: GenerativeEngine) -> None:
        engine.add(91, engine.encode(PROMPT), Sampling(max_tokens=24, temperature=0.0))
        alone = text(run(engine, 91)[0][91])
        engine.add(92, engine.encode(PROMPT), Sampling(max_tokens=24, temperature=0.0))
        said = []
        for number in range(93, 96):  # a longer one, which fills the others up, and leaves again
            engine.add(number, engine.encode("A river flows to the sea. " * 9), Sampling(max_tokens=2, temperature=0.0))
            told, _ = run(engine, number)
            said += told.get(92, [])
        said += run(engine, 92)[0][92]
        assert text(said)[:40] == alone[:40]


def test_a_long_prompt_is_read_in_pieces_between_which_others_speak(tmp_path: Path) -> None:
    engine = load_generator("transformers", tiny_llama(tmp_path), {"cache_mb": 64, "threads": 1})
    engine.add(1, engine.encode("one"), Sampling(max_tokens=30, temperature=0.0))
    engine.step()
    engine.add(2, engine.encode("two " * 300), GREEDY)
    steps: list[set[int]] = []
    while not steps or 2 not in steps[-1]:
        steps.append({delta.stream for delta in engine.step()[0]})
    assert steps == [{1}, {1, 2}]
    engine.close()


def test_what_is_told_together_is_what_is_told_alone(tmp_path: Path) -> None:
    """In exact numbers: a row's logits do not depend on the rows beside it, nor on how it was filled up."""
    engine = load_generator("transformers", tiny_llama(tmp_path), {"cache_mb": 64, "threads": 1})
    prompts = {10: "one", 11: "two three four five", 12: "six seven " * 20}
    wanted = Sampling(max_tokens=20, temperature=0.0, logprobs=0)
    alone = {}
    for number, prompt in prompts.items():
        engine.add(number, engine.encode(prompt), wanted)
        alone |= run(engine, number)[0]
    for number, prompt in prompts.items():
        engine.add(number, engine.encode(prompt), wanted)
        engine.step()
    together, _ = run(engine, *prompts)
    for number in prompts:
        ours = [each.logprob for delta in together[number] for each in delta.chosen]
        assert ours == pytest.approx([e.logprob for d in alone[number] for e in d.chosen][-len(ours) :], abs=1e-4)
    engine.close()


WANTED = Sampling(max_tokens=12, temperature=0.0, logprobs=0)


def asked(engine: GenerativeEngine, number: int, prompt: str, adapter: str = "") -> tuple[int, str, list[float]]:
    """Return how many tokens of ``prompt`` were cached, what was said, and how likely it was."""
    engine.add(number, engine.encode(prompt), msgspec.structs.replace(WANTED, adapter=adapter))
    deltas = run(engine, number)[0][number]
    assert [delta.cached_tokens for delta in deltas[1:]] == [0] * (len(deltas) - 1)
    return deltas[0].cached_tokens, text(deltas), [each.logprob for delta in deltas for each in delta.chosen]


def test_a_prompt_that_begins_as_another_is_read_from_there_on_and_says_the_same(tmp_path: Path) -> None:
    folder, shared = tiny_llama(tmp_path), "one two three four " * 100
    prompts = [shared + end for end in ("five", "six seven", "six seven w1 w2")]
    fresh = []
    for number, prompt in enumerate(prompts):  # each with an engine that knows nothing
        engine = load_generator("transformers", folder, {"cache_mb": 64, "threads": 1})
        fresh.append(asked(engine, number, prompt))
        engine.close()
    assert [cached for cached, _, _ in fresh] == [0, 0, 0]
    assert len({said for _, said, _ in fresh}) > 1
    engine = load_generator("transformers", folder, {"cache_mb": 64, "threads": 1})
    for number, (prompt, cached) in enumerate([*zip(prompts, (0, 400, 402), strict=True), (prompts[2], 403)]):
        _, said, likely = fresh[min(number, 2)]
        assert asked(engine, number, prompt) == (cached, said, pytest.approx(likely, abs=1e-4))
    for number, prompt in enumerate(prompts, 10):  # and side by side
        engine.add(number, engine.encode(prompt), WANTED)
    together, _ = run(engine, 10, 11, 12)
    assert [text(together[number]) for number in together] == [said for _, said, _ in fresh]
    assert [together[number][0].cached_tokens for number in together] == [400, 401, 403]
    engine.close()


def test_a_cached_prompt_takes_one_computation_of_few_tokens(tmp_path: Path) -> None:
    engine = load_generator("transformers", tiny_llama(tmp_path), {"cache_mb": 64, "threads": 1})
    steps = []
    for number in (1, 2):
        engine.add(number, engine.encode("one two " * 350), GREEDY)
        count = 1
        while not engine.step()[0]:
            count += 1
        steps.append(count)
        engine.cancel(number)
    assert steps == [3, 1]
    engine.close()


def test_prompts_are_kept_as_far_as_streams_leave_room(tmp_path: Path) -> None:
    engine = load_generator("transformers", tiny_llama(tmp_path), {"cache_mb": 16, "threads": 1})
    fitting = (16 << 20) // 256  # tokens: of two layers two heads of eight, keys and values, of four bytes each

    def cached(number: int, which: int) -> int:
        prompt = f"w{which % 50} w{which // 50} " + "one " * 998
        engine.add(number, engine.encode(prompt), Sampling(max_tokens=1))
        return run(engine, number)[0][number][0].cached_tokens

    most = fitting // 1000
    assert not any(cached(number, number) for number in range(most + 10))
    assert cached(1000, most + 9) == cached(1001, 20) == 999  # the last, and one that is among the last
    assert cached(1002, 0) == 0  # that was long ago
    for number in range(2000, 2000 + fitting // 1024):  # streams may come to need all of it
        engine.add(number, engine.encode("two"), Sampling())
    for number in range(2000, 2000 + fitting // 1024):
        engine.cancel(number)
    assert cached(3000, most + 9) == 0
    engine.close()


def test_prompts_of_one_adapter_are_not_those_of_another(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    engine = load_generator("transformers", base, {"threads": 1}, {"a": lora(base, tmp_path / "a", 1)})
    prompt = "one two three four " * 10
    first = [asked(engine, number, prompt, adapter) for number, adapter in enumerate(("", "a"))]
    again = [asked(engine, number, prompt, adapter) for number, adapter in enumerate(("", "a"), 10)]
    assert [cached for cached, _, _ in first + again] == [0, 0, 39, 39]
    assert first[0][1] != first[1][1]
    assert [said for _, said, _ in again] == [said for _, said, _ in first]
    engine.close()


def test_what_brings_a_program_or_lacks_a_file_is_refused(tmp_path: Path) -> None:
    whole = tiny_llama(tmp_path)
    for name, change in (
        ("program", ("config.json", '"architectures"', '"auto_map": {"AutoModelForCausalLM": "x.Y"}, "architectures"')),
        ("encoder", ("config.json", "LlamaForCausalLM", "LlamaForSequenceClassification")),
        ("tokenizer", ("tokenizer.json", "{", "")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for path in whole.iterdir():
            content = path.read_bytes()
            if path.name == change[0]:
                content = content.replace(change[1].encode(), change[2].encode(), 1)
            (folder / path.name).write_bytes(content)
        with pytest.raises((InvalidModel, EngineLoadFailed)):
            load_generator("transformers", folder)
    with pytest.raises(InvalidModel):
        load_generator("transformers", tmp_path / "none")
    with pytest.raises(InvalidOption, match="colour"):
        load_generator("transformers", whole, {"colour": 1})


def test_each_stream_is_computed_with_the_adapter_it_names(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    folders = {f"v1.{seed}": lora(base, tmp_path / str(seed), seed) for seed in (1, 2)}
    engine = load_generator("transformers", base, {"cache_mb": 64, "threads": 1}, folders)
    assert engine.profile.adapters == ("v1.1", "v1.2")
    names = ("", "v1.1", "v1.2")
    merged = {}
    for name in names:  # what PyTorch says of each, laid over the base for good
        model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if name:
            model = peft.PeftModel.from_pretrained(model, folders[name]).merge_and_unload()
        with torch.no_grad():
            logits = model.eval()(torch.tensor([[2, 3]])).logits[0, -1]
        merged[name] = torch.log_softmax(logits, dim=0).max().item()
    assert len({round(value, 3) for value in merged.values()}) == 3
    for number, name in enumerate(names):  # all side by side
        wanted = Sampling(max_tokens=9, temperature=0.0, logprobs=0, adapter=name)
        engine.add(number, engine.encode("one two"), wanted)
    told, failed = run(engine, 0, 1, 2)
    assert failed == {}
    for number, name in enumerate(names):
        assert told[number][0].chosen[0].logprob == pytest.approx(merged[name], abs=1e-4)
    engine.close()


def test_an_adapter_inside_the_folder_is_always_there(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    apart = load_generator("transformers", base, {"threads": 1}, {"a": lora(base, tmp_path / "a", 1)})
    shutil.copytree(tmp_path / "a", base / "adapter")
    inside = load_generator("transformers", base, {"threads": 1})
    assert inside.profile.adapters == ()
    said = []
    for engine, name in ((apart, "a"), (inside, "")):
        engine.add(1, engine.encode("one"), Sampling(max_tokens=9, temperature=0.0, logprobs=0, adapter=name))
        said.append([each.chosen[0].logprob for each in run(engine, 1)[0][1]])
        engine.close()
    assert said[0] == pytest.approx(said[1])


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    base = tiny_llama(tmp_path)
    folder = lora(base, tmp_path / "a", 1)
    about = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**about, "target_modules": ["nowhere"]}))
    with pytest.raises(EngineLoadFailed, match="does not fit"):
        load_generator("transformers", base, {"threads": 1}, {"a": folder})
