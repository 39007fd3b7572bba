"""The tokenizer of a Hugging Face folder, in the words of GGUF.

Byte-level BPE alone, whose way of cutting a text into words is one that GGUF has a name for: an engine that reads the
file must cut as the tokenizer's makers did, and a proof of parity compares the two. Pure: it reads JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mofang.base.domain.errors import ConversionFailed

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # types of tokens
_LLAMA3 = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_BY_REGEX = {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}


@dataclass(frozen=True, slots=True)
class Words:
    """What GGUF keeps of a tokenizer. Identifiers are -1 where there is no such token."""

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos: int
    eos: int
    padding: int
    unknown: int
    opens_with_bos: bool
    chat_template: str


def read_words(folder: Path, vocabulary: int) -> Words:
    """Read the tokenizer in ``folder``, for a model of so many tokens. Raises ConversionFailed."""
    whole = _json(folder / "tokenizer.json")
    about = _json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model = whole.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise _unknown(f"it is a tokenizer of the kind {model.get('type')!r}, not byte-level BPE")
    if whole.get("normalizer") not in (None, {"type": "NFC"}):
        raise _unknown("it changes texts before it reads them")
    tokens, types = _tokens(model["vocab"], whole.get("added_tokens") or [], vocabulary)
    ids = {token: number for number, token in enumerate(tokens)}
    bos, eos, padding, unknown = (_id(about, name, ids) for name in ("bos", "eos", "pad", "unk"))
    merges = tuple(each if isinstance(each, str) else " ".join(each) for each in model["merges"])
    opens = bos >= 0 and _opens(whole.get("post_processor"), tokens[bos])
    return Words(
        _pre(whole.get("pre_tokenizer") or {}), tokens, types, merges, bos, eos, padding, unknown, opens,
        _template(folder, about),
    )  # fmt: skip


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionFailed(f"{path.name!r} cannot be read: {error}", hint="push the tokenizer with it") from error


def _unknown(why: str) -> ConversionFailed:
    return ConversionFailed(
        f"the tokenizer cannot be written into a GGUF file: {why}",
        hint="convert the model with llama.cpp, and push the .gguf file",
    )


def _tokens(vocabulary: dict[str, int], added: list[Any], size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [UNUSED] * size
    named = [(word, number, NORMAL) for word, number in vocabulary.items()]
    named += [(each["content"], each["id"], CONTROL if each.get("special") else USER_DEFINED) for each in added]
    for word, number, kind in named:
        if number >= size:
            raise _unknown(f"token {word!r} is number {number:,}, and the model knows {size:,}")
        tokens[number], types[number] = word, kind
    return tuple(tokens), tuple(types)


def _pre(said: dict[str, Any]) -> str:
    """Name the way in which texts are cut into words."""
    parts = said.get("pretokenizers") if said.get("type") == "Sequence" else [said]
    match parts:
        case [{"type": "ByteLevel", "add_prefix_space": False} as last] if last.get("use_regex", True):
            return "gpt-2"
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False} as last,
        ] if last.get("use_regex", True):
            return "smollm"
        case [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if regex in _BY_REGEX:
            return _BY_REGEX[regex]
    raise _unknown("it cuts texts into words in a way that has no name there")


def _opens(processor: Any, bos: str) -> bool:
    """Tell whether a text alone begins with ``bos``."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(_opens(each, bos) for each in processor.get("processors", []))
    first = (processor.get("single") or [{}])[0]
    return bool(first.get("SpecialToken", {}).get("id") == bos)


def _id(about: dict[str, Any], name: str, ids: dict[str, int]) -> int:
    token = about.get(f"{name}_token")
    content = token.get("content") if isinstance(token, dict) else token
    return ids.get(str(content), -1) if content else -1


def _template(folder: Path, about: dict[str, Any]) -> str:
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text("utf-8")
    found = about.get("chat_template")
    if isinstance(found, list):  # several, by name
        found = next((each["template"] for each in found if each.get("name") == "default"), "")
    return found or ""
