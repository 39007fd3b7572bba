"""Look at a causal language model, or a LoRA adapter, that somebody pushed as a folder: can it be served?

Called by the pipeline on a folder. What its files say is read by :mod:`mofang.base.engines.causal`, which the engines
ask too. Programs and pickles that lie beside the model are not taken in.
"""

from __future__ import annotations

from pathlib import Path

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.generation import TEXT_SIGNATURE
from mofang.base.domain.registry import FileEntry
from mofang.base.domain.tensors import Signature
from mofang.base.engines.adapters import ENGINE, FILES, GGUF_FILE, read_adapter, read_gguf_adapter
from mofang.base.engines.causal import read_causal

_TAKEN = (".json", ".safetensors", ".jinja", ".txt")


def inspect(folder: Path) -> Signature:
    """Return the signature of the language model in ``folder``. Raises InvalidModel."""
    read_causal(folder)
    return TEXT_SIGNATURE


def inspect_adapter(folder: Path) -> Signature:
    """Return the signature of what the LoRA adapter in ``folder`` is laid over. Raises InvalidModel."""
    if (folder / GGUF_FILE).is_file():
        read_gguf_adapter(folder / GGUF_FILE)
    else:
        read_adapter(folder)
    return TEXT_SIGNATURE


def is_causal(folder: Path) -> bool:
    """Tell whether ``folder`` holds such a model, whole and without a program of its own."""
    try:
        read_causal(folder)
    except InvalidModel:
        return False
    return True


def taken(entries: list[FileEntry], engine: str) -> list[FileEntry]:
    """Return those of ``entries`` that ``engine`` reads."""
    if engine == ENGINE:
        return [entry for entry in entries if entry.path in FILES]
    return [entry for entry in entries if entry.path.endswith(_TAKEN)]
