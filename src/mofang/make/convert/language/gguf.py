"""Writes a language model of PyTorch as a GGUF file, weights in half precision.

What is not weights comes from the GGUF file that the model was read from, as it is, or from its Hugging Face folder.
The same model gives the same bytes. :mod:`.parity` proves that an engine computes the same from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed
from mofang.make.convert.language.tokenizer import read_words

FILE = "model.gguf"
_KINDS = {
    "llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}  # fmt: skip
_WRITTEN_ANEW = ("general.architecture", "general.file_type", "general.quantization_version")


def write(model: Any, came_from: Path, folder: Path) -> None:
    """Write ``folder/model.gguf`` of ``model``, which was read from the folder ``came_from``.

    Raises ConversionFailed for a kind of model, a tokenizer or a tensor that has no place in such a file.
    """
    kind = _KINDS.get(str(model.config.model_type))
    if kind is None:
        raise ConversionFailed(
            f"models of the kind {model.config.model_type!r} are not written as GGUF here",
            hint=f"those of {', '.join(_KINDS)} are",
        )
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[kind])
    try:
        files = sorted(came_from.glob("*.gguf"))
        if files:
            _copy_about(writer, files[0])
        else:
            _write_about(writer, model.config)
            _write_words(writer, came_from, model.config)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        for name, values in _tensors(model, kind):
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _tensors(model: Any, kind: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    config = model.config
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # engines take the embeddings
        place = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if place is None:
            raise ConversionFailed(f"the model has a tensor {name!r}, which has no place in a GGUF file", hint="")
        values = value.float().numpy()
        part = name.split(".")[-2]
        if kind == gguf.MODEL_ARCH.LLAMA and part in heads:
            values = _paired(values, heads[part])
        yield place, values.astype(np.float16 if values.ndim > 1 else np.float32)


def _paired(values: NDArray[Any], heads: int) -> NDArray[Any]:
    """Put the two halves of each head one beside the other: so are positions turned in a GGUF file of LLaMA."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _copy_about(writer: Any, path: Path) -> None:
    reader = gguf.GGUFReader(path)
    if any(tensor.name.startswith("rope_freqs") for tensor in reader.tensors):
        raise ConversionFailed("the language model stretches its positions, which is not known here", hint="")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in _WRITTEN_ANEW:
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)


def _write_about(writer: Any, config: Any) -> None:
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float((config.rope_parameters or {}).get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_words(writer: Any, folder: Path, config: Any) -> None:
    words = read_words(folder, config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    writer.add_token_merges(words.merges)
    writer.add_add_bos_token(words.opens_with_bos)
    adders = (
        (writer.add_bos_token_id, words.bos), (writer.add_eos_token_id, words.eos),
        (writer.add_pad_token_id, words.padding), (writer.add_unk_token_id, words.unknown),
    )  # fmt: skip
    for add, number in adders:
        if number >= 0:
            add(number)
    if words.chat_template:
        writer.add_chat_template(words.chat_template)
