"""LoRA adapters of language models: a version that is a folder of PEFT, or a GGUF file, which engines lay over a base.

A base with an adapter is a variant of the base: the base's files, and the adapter's in a folder ``adapter``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mofang.base.domain.errors import AdapterRefused, InvalidModel
from mofang.base.engines.gguf import Gguf, read_gguf

ENGINE = "lora"
"""What the artifact of an adapter names as its engine. Nothing loads it alone."""
INSIDE = "adapter"
"""The folder of a base with an adapter where the adapter is."""
FILES = ("adapter_config.json", "adapter_model.safetensors")
Shape = tuple[int, ...]
_EMBEDDING = "token_embd.weight"
GGUF_FILE = "adapter.gguf"
"""The file of an adapter that was pushed as llama.cpp has it."""
TAKERS: Mapping[str, tuple[str, ...]] = {"llamacpp": (*FILES, GGUF_FILE), "transformers": FILES}
"""Engines that compute each stream with the adapter it names, and files of adapters that they read."""


def check_takes(engine: str, names: Collection[str], files: Collection[str] = ()) -> None:
    """Raise AdapterRefused if ``engine`` takes no adapters, and there are any, or none of these ``files``."""
    if names and engine not in TAKERS:
        raise AdapterRefused(
            f"engine {engine!r} computes no adapter by request",
            hint="push a GGUF base with `--engine llamacpp`, a Hugging Face folder with `--engine transformers`; "
            "or merge the adapter into it",
        )
    if strange := sorted({*files} - {*TAKERS.get(engine, files)}):
        raise AdapterRefused(
            f"engine {engine!r} reads no adapter of the file {strange[0]!r}",
            hint="push the folder that PEFT saved, or lay it over a GGUF base with `--engine llamacpp`",
        )


def check_base(engine: str) -> None:
    """Raise AdapterRefused for an adapter that is to be served alone."""
    if engine == ENGINE:
        hint = "`mofang deploy BASE --adapter NAME=VERSION` lays it over its base"
        raise AdapterRefused("an adapter is no model of its own", hint=hint)


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return what ``adapter_config.json`` in ``folder`` says. Raises InvalidModel for what is no LoRA adapter."""
    try:
        about: dict[str, Any] = msgspec.json.decode((folder / FILES[0]).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidModel(f"{FILES[0]!r} cannot be read: {error}") from error
    if about.get("peft_type") != "LORA":
        raise InvalidModel(f"the adapter is of the kind {about.get('peft_type')!r}", hint="LoRA is what is served")
    if not (folder / FILES[1]).is_file():
        raise InvalidModel(f"the adapter has no {FILES[1]!r}", hint="save it with `save_pretrained`, as safetensors")
    return about


def is_adapter(about: Gguf) -> bool:
    """Tell whether a GGUF file says that it is an adapter."""
    return about.metadata.get("general.type") == "adapter"


def read_gguf_adapter(path: Path) -> tuple[str, dict[str, Shape]]:
    """Return the architecture that the adapter at ``path`` is for, and the shape of each weight that it changes.

    Shapes are innermost first, as in the file. Raises InvalidModel for what is no whole LoRA adapter. Source:
    https://github.com/ggml-org/llama.cpp/blob/master/src/llama-adapter.cpp
    """
    about = read_gguf(path)
    kind, alpha = about.metadata.get("adapter.type"), about.metadata.get("adapter.lora.alpha")
    if not is_adapter(about) or kind != "lora":
        raise InvalidModel(f"the adapter is of the kind {kind!r}", hint="LoRA is what is served")
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        raise InvalidModel(f"'adapter.lora.alpha' of the adapter is {alpha!r}, no number")
    halves = {tensor.name: tensor.shape for tensor in about.tensors}
    changed: dict[str, Shape] = {}
    for name in halves:
        weight, _, side = name.rpartition(".lora_")
        pair = [halves.get(f"{weight}.lora_{each}") for each in "ab"]
        if side not in ("a", "b") or not weight or None in pair:
            raise InvalidModel(f"{name!r} of the adapter is no half of a pair of weights")
        changed[weight] = _product(weight, *(shape or () for shape in pair))
    return about.architecture, changed


def _product(weight: str, a: Shape, b: Shape) -> Shape:
    """Return the shape of what a pair of low rank makes together; raise InvalidModel if it makes nothing."""
    if len(a) >= 2 and len(b) >= 2 and a[2:] == b[2:]:
        if weight == _EMBEDDING and a[0] == b[0]:  # rows are looked up: the halves lie the other way
            return (b[1], a[1], *a[2:])
        if weight != _EMBEDDING and a[1] == b[0]:
            return (a[0], b[1], *a[2:])
    raise InvalidModel(f"the two halves of {weight!r} in the adapter are {list(a)} and {list(b)}, which are no pair")
