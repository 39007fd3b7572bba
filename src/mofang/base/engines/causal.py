"""A folder of a causal language model as Hugging Face lays it out: what its files say, before anything is loaded.

``config.json``, ``tokenizer.json``, ``model*.safetensors`` and, if they are there, ``tokenizer_config.json``,
``chat_template.jinja`` and ``generation_config.json``. Engines read it, and so does whoever takes a folder in. Nothing
in a folder is ever run: a model that brings code of its own is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mofang.base.domain.errors import InvalidModel

GENERATES = ("ForCausalLM", "LMHeadModel")
"""What the names of architectures end with that go on from text."""
_CONTEXT_TOKENS = 4096  # of a model that does not say
_MOST_BYTES = 64 << 20  # of a file of words
_HINT = "push the folder that `save_pretrained` wrote for model and tokenizer, with safetensors"


@dataclass(frozen=True, slots=True)
class Causal:
    """What is known of a model."""

    architecture: str
    context_tokens: int
    token_values: int  # numbers that the keys and values of one token are, in all layers
    chat_template: str  # Jinja; empty: none
    bos: str
    eos: str
    ends: frozenset[int]  # tokens that end an answer


def read_causal(folder: Path) -> Causal:
    """Read the files of words in ``folder``. Raises InvalidModel."""
    config = _read(folder, "config.json", needed=True)
    architecture = str((config.get("architectures") or [""])[0])
    if not architecture.endswith(GENERATES):
        raise InvalidModel(f"'config.json' tells of {architecture or 'no architecture'!r}, no causal language model")
    if "auto_map" in config:
        raise InvalidModel(f"the {architecture} comes with a program of its own, which is not run", hint=_HINT)
    for name in ("tokenizer.json", "model*.safetensors"):
        if not any(folder.glob(name)):
            raise InvalidModel(f"the folder has no {name!r}", hint=_HINT)
    about, generation = _read(folder, "tokenizer_config.json"), _read(folder, "generation_config.json")
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    heads = _number(config, 32, "num_attention_heads", "n_head")
    size = _number(config, _number(config, 4096, "hidden_size", "n_embd") // heads, "head_dim")
    layers, kept = _number(config, 32, "num_hidden_layers", "n_layer"), _number(config, heads, "num_key_value_heads")
    return Causal(
        architecture,
        _number(config, _CONTEXT_TOKENS, "max_position_embeddings", "n_positions"),
        2 * layers * kept * size,
        _template(folder, about),
        _word(about, "bos_token"),
        _word(about, "eos_token"),
        frozenset(_whole(ends if isinstance(ends, list) else [ends])),
    )


def _read(folder: Path, name: str, *, needed: bool = False) -> dict[str, Any]:
    path = folder / name
    if not needed and not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InvalidModel(f"{name!r} has over {_MOST_BYTES:,} bytes")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{name!r} cannot be read: {error}", hint=_HINT) from error


def _template(folder: Path, about: Mapping[str, Any]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file() and path.stat().st_size <= _MOST_BYTES:
        return path.read_text("utf-8", "replace")
    found = about.get("chat_template", "")
    if isinstance(found, list):  # several with names
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default", "")
    return found if isinstance(found, str) else ""


def _word(about: Mapping[str, Any], name: str) -> str:
    word = about.get(name)
    return str(word.get("content", "") if isinstance(word, dict) else word or "")


def _number(config: Mapping[str, Any], otherwise: int, *names: str) -> int:
    return next(_whole(config.get(name) for name in names), 0) or otherwise


def _whole(values: Any) -> Iterator[int]:
    return (value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0)
