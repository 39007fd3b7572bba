"""LoRA adapters of PEFT over GGUF files: llama.cpp says what PyTorch says of the two together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from generator_suite import run
from language_folders import in_gguf, question

import tinylm
from mofang.base.domain.errors import EngineLoadFailed, InvalidModel
from mofang.base.domain.generation import Sampling
from mofang.base.engines.catalog import load_generator
from mofang.base.engines.gguf import read_gguf
from mofang.base.engines.ggufadapter import write_adapter

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # peft and transformers are not always in step
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
OPTIONS = {"context": 64, "slots": 2, "cache_mb": 64, "threads": 1}
TEXT = "the river flows to the sea"


def adapter(base: Path, folder: Path, seed: int, **more: Any) -> Path:
    """Save an adapter of random weights that changes what is said."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=4, lora_alpha=24, target_modules=ALL, init_lora_weights=False, **more)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tinylm.write(tmp_path / "base", [TEXT], "llama")
    return tmp_path / "base"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("rooted", [False, True])
def test_each_stream_is_computed_with_the_adapter_it_names(tmp_path: Path, kind: str, rooted: bool) -> None:
    tinylm.write(tmp_path / "base", [TEXT], kind)
    base = tmp_path / "base"
    laid = {name: adapter(base, tmp_path / name, seed, use_rslora=rooted) for seed, name in ((1, "v1.one"), (2, "two"))}
    engine = load_generator("llamacpp", in_gguf(base, tmp_path / "gguf"), OPTIONS, laid)
    assert engine.profile.adapters == ("v1.one", "two")
    names = ["", "v1.one", "two", ""]
    asked = [question(base, laid.get(name)) for name in names]
    for begin in (0, 10):  # the second time, of what the first has cached
        for number, (name, (tokens, _)) in enumerate(zip(names, asked, strict=True), begin):
            engine.add(number, tokens, Sampling(max_tokens=2, temperature=0.0, logprobs=1, adapter=name))
        told, failed = run(engine, *range(begin, begin + len(names)))
        assert failed == {}
        for number, (_, wanted) in enumerate(asked, begin):
            assert told[number][0].chosen[0].logprob == pytest.approx(wanted, abs=0.03), names[number - begin]
    engine.close()


def test_an_adapter_that_was_pushed_as_gguf_is_laid_over_as_it_is(base: Path, tmp_path: Path) -> None:
    folder, laid = in_gguf(base, tmp_path / "gguf"), adapter(base, tmp_path / "one", 1)
    (tmp_path / "raw").mkdir()
    raw = tmp_path / "raw" / "adapter.gguf"
    write_adapter(laid, read_gguf(folder / "model.gguf"), raw)
    tokens, wanted = question(base, laid)
    engine = load_generator("llamacpp", folder, OPTIONS, {"one": raw.parent})
    engine.add(1, tokens, Sampling(max_tokens=2, temperature=0.0, logprobs=1, adapter="one"))
    assert run(engine, 1)[0][1][0].chosen[0].logprob == pytest.approx(wanted, abs=0.03)
    engine.close()
    whole = raw.read_bytes()
    for content, words in (
        (whole[:-64], "cut short"),
        (whole.replace(b"blk.0.attn_q", b"blk.7.attn_q"), r"'blk\.7\.attn_q\.weight', which the base does not have"),
        (whole.replace(b"llama", b"qwen2"), "of 'qwen2', and the base of 'llama'"),
    ):
        raw.write_bytes(content)
        with pytest.raises(InvalidModel, match=words):
            load_generator("llamacpp", folder, OPTIONS, {"one": raw.parent})
    raw.write_bytes(whole)
    tinylm.write(tmp_path / "narrow", [TEXT], "llama", intermediate_size=48)
    with pytest.raises(InvalidModel, match=r"ffn_\w+\.weight' of \[.*\], the base has"):
        load_generator("llamacpp", in_gguf(tmp_path / "narrow", tmp_path / "thin"), OPTIONS, {"one": raw.parent})


def test_a_stream_does_not_wait_for_those_of_another_adapter(base: Path, tmp_path: Path) -> None:
    folder = in_gguf(base, tmp_path / "gguf")
    engine = load_generator("llamacpp", folder, OPTIONS, {"one": adapter(base, tmp_path / "one", 1)})
    tokens = engine.encode("the", opening=True)
    long = Sampling(max_tokens=40, temperature=0.0)
    for number in range(40):  # more than there are slots: the server of the base has work for a while
        engine.add(number, tokens, long)
    engine.add(99, tokens, Sampling(max_tokens=2, temperature=0.0, adapter="one"))
    ended: list[int] = []
    while 99 not in ended:
        deltas, failures = engine.step()
        assert failures == {}
        ended += [delta.stream for delta in deltas if delta.finish]
    assert len(ended) < 20
    engine.close()


def test_an_adapter_inside_the_folder_is_always_there(base: Path, tmp_path: Path) -> None:
    folder = in_gguf(base, tmp_path / "gguf")
    shutil.copytree(adapter(base, tmp_path / "one", 1), folder / "adapter")
    engine = load_generator("llamacpp", folder, OPTIONS)
    tokens, wanted = question(base, tmp_path / "one")
    engine.add(1, tokens, Sampling(max_tokens=2, temperature=0.0, logprobs=1))
    assert run(engine, 1)[0][1][0].chosen[0].logprob == pytest.approx(wanted, abs=0.03)
    engine.close()


def test_what_does_not_fit_or_has_no_place_is_refused_in_words(base: Path, tmp_path: Path) -> None:
    folder = in_gguf(base, tmp_path / "gguf")
    good = adapter(base, tmp_path / "good", 1)
    weights = (good / "adapter_model.safetensors").read_bytes()
    about = json.loads((good / "adapter_config.json").read_text())
    cases = {
        "elsewhere": (weights.replace(b"layers.0.", b"layers.7."), about, "which the base does not have"),
        "cut": (weights[: len(weights) // 2], about, "cannot be read"),
        "alpha": (weights, about | {"lora_alpha": "much"}, "no number"),
        "dora": (weights, about | {"use_dora": True}, "low rank"),
    }
    for name, (content, config, words) in cases.items():
        bad = tmp_path / name
        bad.mkdir()
        (bad / "adapter_model.safetensors").write_bytes(content)
        (bad / "adapter_config.json").write_text(json.dumps(config))
        with pytest.raises((InvalidModel, EngineLoadFailed), match=words):
            load_generator("llamacpp", folder, OPTIONS, {"bad": bad})
    tinylm.write(tmp_path / "narrow", [TEXT], "llama", intermediate_size=48)
    with pytest.raises(InvalidModel, match=r"of the adapter is \["):
        load_generator("llamacpp", folder, OPTIONS, {"bad": adapter(tmp_path / "narrow", tmp_path / "thin", 1)})
