"""Turns texts into vectors, or into classes: an ONNX encoder with the tokenizer it was trained with.

Loaded through the catalog.

The artifact is ``model.onnx``, ``tokenizer.json`` and, as sentence-transformers lays them out:
``1_Pooling/config.json`` (mean, first token or maximum; mean without it), ``modules.json`` (whether vectors have length
1; they do without it) and ``sentence_bert_config.json`` or ``config.json`` (how many tokens a text may have).
With ``head/model.onnx``, a graph that takes the vectors, its answers are given in their place. With ``reading.json``
(``{"tokens": n}``) a text is read up to so many tokens, and what follows is left out; without it, a text that is longer
than the context is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mofang.base.domain.errors import EngineLoadFailed, PromptTooLong, TensorData
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import Options
from mofang.base.engines.catalog import load_engine
from mofang.base.engines.reading import read_reading

_HEAD = "head"  # the folder of a graph that takes the vectors, and answers in their place
_MOST_TOKENS = 512  # of a model that does not say
_CHUNK = 32  # texts computed at once, of about the same length
_MOST_CHARACTERS = 64  # a token, about, at most
_EXAMPLE_TEXTS, _EXAMPLE_WORDS = 8, 32
_MOST_SPECIAL = 2  # tokens around a text

Floats = NDArray[np.float32]


class EncoderEngine:
    """``text [n] BYTES`` becomes ``embedding [n, d] FP32`` and ``input_tokens [n] INT64``. Options: as ``onnx``."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Load model and tokenizer. Raises EngineLoadFailed."""
        self._onnx = load_engine("onnx", folder, options)
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises Exception itself
            raise EngineLoadFailed(f"'tokenizer.json' cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._takes = [spec.name for spec in self._onnx.signature.inputs]
        unknown = set(self._takes) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "input_ids" not in self._takes:
            raise EngineLoadFailed(f"'model.onnx' is no encoder of tokens: it takes {', '.join(self._takes)}")
        self._output = self._onnx.signature.outputs[0]
        self._pooling, self._normalises = _pooling(folder), _normalises(folder)
        self._most_tokens = _most_tokens(folder)
        reading = read_reading(folder)
        self._cut = min(reading.tokens, self._most_tokens) if reading else 0
        if self._cut:
            self._tokenizer.enable_truncation(self._cut)
        else:
            self._tokenizer.no_truncation()
        self._head = load_engine("onnx", folder / _HEAD, options) if (folder / _HEAD).is_dir() else None
        vectors = TensorSpec("embedding", "FP32", (-1, self._output.shape[-1]))
        answers = (vectors,) if self._head is None else self._head.signature.outputs
        self.signature = Signature(
            (TensorSpec("text", "BYTES", (-1,)),), (*answers, TensorSpec("input_tokens", "INT64", (-1,)))
        )

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the vectors. Raises PromptTooLong, or TensorData for text that is not UTF-8."""
        encoded = self._encode(inputs["text"])
        counts = np.array([len(each.ids) for each in encoded], np.int64)
        vectors: list[Floats | None] = [None] * len(encoded)
        order = np.argsort(counts, kind="stable")
        for start in range(0, len(order), _CHUNK):
            chosen = order[start : start + _CHUNK]
            for index, vector in zip(chosen, self._compute([encoded[index].ids for index in chosen]), strict=True):
                vectors[index] = vector
        found = np.stack([each for each in vectors if each is not None])
        if self._head is None:
            return {"embedding": found, "input_tokens": counts}
        return {**self._head.infer({self._head.signature.inputs[0].name: found}), "input_tokens": counts}

    def example(self) -> Mapping[str, Array]:
        """Return texts as a client sends them, several at once; see :class:`Exemplary`."""
        words = max(1, min(_EXAMPLE_WORDS, (self._cut or self._most_tokens) - _MOST_SPECIAL))
        return {"text": np.full(_EXAMPLE_TEXTS, b" ".join([b"one"] * words), np.object_)}

    def interrupt(self) -> None:
        """See :class:`Interruptible`."""
        self._onnx.interrupt()  # type: ignore[attr-defined]  # the engine of ONNX can be

    def close(self) -> None:
        """Let go of the model."""
        self._onnx.close()
        if self._head is not None:
            self._head.close()

    def _encode(self, texts: Array) -> list[Any]:
        try:
            words = [bytes(each).decode() if isinstance(each, bytes) else str(each) for each in texts.flat]
        except UnicodeDecodeError as error:
            raise TensorData("input 'text' holds text that is not UTF-8") from error
        if self._cut:
            words = [word[: self._cut * _MOST_CHARACTERS] for word in words]
        for index, word in enumerate(words):
            if len(word) > self._most_tokens * _MOST_CHARACTERS:
                raise self._too_long(index)
        encoded: list[Any] = self._tokenizer.encode_batch(words)
        for index, each in enumerate(encoded):
            if len(each.ids) > self._most_tokens:
                raise self._too_long(index)
        return encoded

    def _too_long(self, index: int) -> PromptTooLong:
        return PromptTooLong(f"text {index} has more than {self._most_tokens} tokens, the context of this model")

    def _compute(self, rows: list[list[int]]) -> Floats:
        """Return the vectors of ``rows`` of tokens, [n, d]."""
        ids = np.zeros((len(rows), max(1, *map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._onnx.infer({name: tensors[name] for name in self._takes})[self._output.name]
        states: Floats = np.asarray(hidden, np.float32)
        pooled = states if states.ndim == 2 else _pool(states, mask[:, :, None].astype(np.float32), self._pooling)
        if self._normalises:
            pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
        return pooled.astype(np.float32, copy=False)


def _pool(states: Floats, mask: Floats, how: str) -> Floats:
    if how == "cls":
        return states[:, 0]
    if how == "max":
        highest: Floats = np.where(mask > 0, states, -np.inf).max(axis=1)
        return highest
    mean: Floats = (states * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1.0)
    return mean


def _read(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineLoadFailed(f"{path.name!r} cannot be read: {error}") from error


def _pooling(folder: Path) -> str:
    said = _read(folder / "1_Pooling" / "config.json")
    if not isinstance(said, dict):
        return "mean"
    for how, word in (("cls", "pooling_mode_cls_token"), ("max", "pooling_mode_max_tokens")):
        if said.get(word) is True:
            return how
    return "mean"


def _normalises(folder: Path) -> bool:
    modules = _read(folder / "modules.json")
    if not isinstance(modules, list):
        return True
    return any(str(each.get("type", "")).endswith("Normalize") for each in modules if isinstance(each, dict))


def _most_tokens(folder: Path) -> int:
    for name, word in (("sentence_bert_config.json", "max_seq_length"), ("config.json", "max_position_embeddings")):
        said = _read(folder / name)
        if isinstance(said, dict) and isinstance(said.get(word), int) and said[word] > 0:
            return int(said[word])
    return _MOST_TOKENS
