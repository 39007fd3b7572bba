"""The GGUF file of a LoRA adapter that llama.cpp lays over a base: as it was pushed, or written of what PEFT saves.

Names and order of weights differ between the two; the base's own file says which architecture both are of. What an
adapter changes besides pairs of low rank (biases, whole modules, DoRA) has no place in such a file, and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.utility import LocalTensor, SafetensorsLocal
from numpy.typing import NDArray

from mofang.base.domain.errors import EngineLoadFailed, InvalidModel
from mofang.base.engines.adapters import FILES, GGUF_FILE, read_adapter, read_gguf_adapter
from mofang.base.engines.gguf import Gguf

Weights = NDArray[np.float32]
_PERMUTED = frozenset({"llama"})
"""Architectures whose files keep the two halves of each head of queries and keys interleaved."""
_KNOWN = _PERMUTED | {"qwen2", "qwen3"}
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def file_of(folder: Path, base: Gguf, room: Path) -> Path:
    """Return the file of the adapter in ``folder``, which may be written into ``room``. Raises as ``write_adapter``."""
    pushed = folder / GGUF_FILE
    if pushed.is_file():
        _check_fits(pushed, base)
        return pushed
    written = room / GGUF_FILE
    write_adapter(folder, base, written)
    return written


def _check_fits(path: Path, base: Gguf) -> None:
    architecture, changed = read_gguf_adapter(path)
    if architecture != base.architecture:
        raise InvalidModel(f"the adapter is of {architecture!r}, and the base of {base.architecture!r}")
    there = {tensor.name: tensor.shape for tensor in base.tensors}
    for weight, shape in changed.items():
        if weight not in there:
            raise InvalidModel(f"the adapter changes {weight!r}, which the base does not have")
        if shape != there[weight]:
            raise InvalidModel(f"the adapter changes {weight!r} of {list(shape)}, the base has {list(there[weight])}")


def write_adapter(folder: Path, base: Gguf, target: Path) -> None:
    """Write the adapter in ``folder`` to ``target``, for a base that says ``base`` of itself.

    Raises InvalidModel for what is no LoRA adapter or does not fit, EngineLoadFailed for what cannot be written so.
    """
    about = read_adapter(folder)
    if base.architecture not in _KNOWN:
        raise EngineLoadFailed(
            f"adapters of {base.architecture!r} are not laid over GGUF files",
            hint="push the base as a Hugging Face folder with `--engine transformers`",
        )
    if about.get("use_dora") or about.get("modules_to_save") or about.get("alpha_pattern"):
        raise EngineLoadFailed(
            "the adapter is more than pairs of low rank (use_dora, modules_to_save, alpha_pattern)",
            hint="merge it into its base, or push the base as a Hugging Face folder with `--engine transformers`",
        )
    writer = gguf.GGUFWriter(target, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    pairs = _pairs(folder / FILES[1], base)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, _alpha(about, pairs))
    for name, weights in pairs.items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _alpha(about: Mapping[str, Any], pairs: Mapping[str, Weights]) -> float:
    """Return what llama.cpp divides by each pair's rank, so that it scales as the adapter says."""
    ranks = {len(weights) for name, weights in pairs.items() if name.endswith("lora_a")}
    alpha = about.get("lora_alpha")
    if not isinstance(alpha, (int, float)):
        raise InvalidModel(f"'lora_alpha' of the adapter is {alpha!r}, no number")
    if not about.get("use_rslora"):
        return float(alpha)
    if len(ranks) > 1:
        raise EngineLoadFailed("an adapter of several ranks with 'use_rslora' has no one scale")
    return float(alpha) * float(np.sqrt(ranks.pop()))


def _pairs(path: Path, base: Gguf) -> dict[str, Weights]:
    """Return the adapter's weights by the names that the base's file has for what they change."""
    blocks = base.count("block_count")
    architecture = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == base.architecture)
    names = gguf.get_tensor_name_map(architecture, blocks)
    there = {tensor.name: tensor.shape for tensor in base.tensors}
    found: dict[str, Weights] = {}
    for name, weights in _tensors(path):
        part = _NAME.fullmatch(name)
        target = f"{names.get_name(part['module'])}.weight" if part else ""
        if part is None or target not in there:
            raise InvalidModel(f"the adapter changes {name[:120]!r}, which the base does not have")
        side, shape = part["side"], there[target]
        width = weights.shape[-1] if side == "A" else weights.shape[0]
        if weights.ndim != 2 or width != shape[side == "B"]:
            raise InvalidModel(f"{name[:120]!r} of the adapter is {list(weights.shape)}, and {target!r} {list(shape)}")
        heads = {"attn_q": base.count("attention.head_count"), "attn_k": base.count("attention.head_count_kv")}
        kind = target.split(".")[-2]
        if side == "B" and base.architecture in _PERMUTED and kind in heads:
            weights = _interleaved(weights, heads[kind] or heads["attn_q"])
        found[f"{target}.lora_{side.lower()}"] = weights
    if not found or len(found) % 2:
        raise InvalidModel("the adapter has no whole pairs of weights")
    return found


def _tensors(path: Path) -> Iterator[tuple[str, Weights]]:
    try:
        tensors: Mapping[str, LocalTensor] = SafetensorsLocal(path).tensors
        for name, tensor in tensors.items():
            if tensor.dtype not in _DTYPES:
                raise InvalidModel(f"{name[:120]!r} of the adapter is of the type {tensor.dtype!r}")
            raw = tensor.mmap_bytes().view(_DTYPES[tensor.dtype]).reshape(tensor.shape)
            if tensor.dtype == "BF16":
                raw = (raw.astype("<u4") << 16).view("<f4")
            yield name, np.ascontiguousarray(raw, dtype=np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModel(f"{path.name!r} of the adapter cannot be read: {str(error)[:200]}") from error


def _interleaved(weights: Weights, heads: int) -> Weights:
    """Order the rows [heads * width, rank] of queries or keys as llama.cpp turns them by position."""
    split = weights.reshape(heads, 2, -1, weights.shape[1])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weights.shape))
