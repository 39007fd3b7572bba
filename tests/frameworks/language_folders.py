"""Folders of causal language models as Hugging Face lays them out: the real SmolLM2, and one of random weights."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from models import SMOLLM2, fetch
from mofang.make.convert.language.gguf import write

_LETTERS = range(3, 97)  # how a tokenizer of bytes begins: special tokens, then ! to ~


@cache
def smollm2() -> Path:
    """SmolLM2 with its tokenizer, made of its GGUF file once and kept beside it."""
    source = fetch(SMOLLM2)
    target = source.parent / "safetensors"
    if target.is_dir():
        return target
    read = {"gguf_file": source.name, "dtype": torch.float32}
    model = transformers.AutoModelForCausalLM.from_pretrained(source.parent, **read)
    about = {name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
    plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**about))
    plain.load_state_dict(model.state_dict())
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        plain.to(torch.bfloat16).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
        ready = shutil.copytree(folder, target.with_name(f"{os.getpid()}.safetensors"))
    ready.rename(target)  # whole or not at all
    return target


def tiny_llama(parent: Path) -> Path:
    """A Llama of random weights that reads and writes a few words; the same every time."""
    folder = parent / "tiny"
    words = ["<s>", "</s>", "one", "two", "three", "four", "five", "six", "seven", *(f"w{n}" for n in range(55))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


def lora(base: Path, folder: Path, seed: int) -> Path:
    """A LoRA adapter of random weights for ``base``, as PEFT saves it; it changes what is said."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def in_gguf(base: Path, folder: Path) -> Path:
    """Write the model of a folder as a GGUF file into another."""
    write(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), base, folder)
    return folder


def question(base: Path, laid: Path | None) -> tuple[list[int], float]:
    """Tokens after which PyTorch, with the adapter merged for good, finds a plain letter likeliest, and how likely.

    Others are pieces of characters, of which llama.cpp tells nothing.
    """
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if laid is not None:
        model = peft.PeftModel.from_pretrained(model, laid).merge_and_unload()
    model.eval()
    for first in range(3, 260):
        tokens = [260, first, 261, first, 262]
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0, -1]
        if int(logits.argmax()) in _LETTERS:
            return tokens, float(torch.log_softmax(logits, dim=0).max())
    raise AssertionError("this model never says a letter")
