"""LoRA adapters of language models: a version that is a folder of PEFT, which engines lay over a base.

A base with an adapter is a variant of the base: the base's files, and the adapter's in a folder ``adapter``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from mofang.base.domain.errors import AdapterRefused, InvalidModel

ENGINE = "lora"
"""What the artifact of an adapter names as its engine. Nothing loads it alone."""
INSIDE = "adapter"
"""The folder of a base with an adapter where the adapter is."""
FILES = ("adapter_config.json", "adapter_model.safetensors")
TAKERS = frozenset({"llamacpp", "transformers"})
"""Engines that compute each stream with the adapter it names."""


def check_takes(engine: str, names: Collection[str]) -> None:
    """Raise AdapterRefused if ``engine`` takes no adapters, and there are any."""
    if names and engine not in TAKERS:
        raise AdapterRefused(
            f"engine {engine!r} computes no adapter by request",
            hint="push a GGUF base with `--engine llamacpp`, a Hugging Face folder with `--engine transformers`; "
            "or merge the adapter into it",
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
