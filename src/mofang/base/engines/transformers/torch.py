"""Rows of tokens that a model computes together, with the keys and values of what it has read of each.

Rows of different lengths lie in one tensor, the shorter ones filled up on the left, and the filling is masked. Rows
join and leave between two computations. Only the engine uses this.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer

from mofang.base.domain.errors import EngineLoadFailed
from mofang.base.engines.choosing import Logits

States = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer the keys and values [1, heads, tokens, width] of one row."""
_BASE = "__base__"  # as PEFT names the model without an adapter
_SAFE: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_ADAPTED: Mapping[str, Any] = {"is_trainable": False, "local_files_only": True}


class Model:
    """A causal model of Hugging Face, evaluated."""

    def __init__(self, model: Any, adapters: Mapping[str, str]) -> None:
        """Take ``model``, and what it calls its adapters, by the names that streams give."""
        self._model = model
        self._adapters = adapters
        self._device = model.device
        self.value_bytes: int = model.dtype.itemsize
        inner = model.get_base_model() if adapters else model
        takes = inspect.signature(inner.forward).parameters
        self._cache = "cache" if "cache" in takes else "past_key_values"  # its name before 5.24
        self._takes_positions, self._keeps = "position_ids" in takes, "logits_to_keep" in takes

    def read(self, ids: torch.Tensor, lengths: Sequence[int], cache: Any, adapters: Sequence[str]) -> Logits:
        """Read ``ids`` INT64 [rows, n] after ``lengths`` tokens of each row; return logits FP32 [rows, vocabulary]."""
        size = ids.shape[1]
        past = cache.get_seq_length()
        before = torch.tensor(lengths)
        known: dict[str, Any] = {self._cache: cache, "use_cache": True}
        if min(lengths) < past:
            places = torch.arange(past + size)
            known["attention_mask"] = (places >= (past - before)[:, None]).long().to(self._device)
        if self._takes_positions:
            known["position_ids"] = (before[:, None] + torch.arange(size)).to(self._device)
        if self._keeps:
            known["logits_to_keep"] = 1
        if self._adapters:
            known["adapter_names"] = [self._adapters.get(name, _BASE) for name in adapters]
        with torch.inference_mode():
            logits: torch.Tensor = self._model(input_ids=ids.to(self._device), **known).logits
            found: Logits = logits[:, -1].float().cpu().numpy()
        return found

    def score(self, tokens: Sequence[int], adapter: str) -> list[float]:
        """Return ln(probability) of every one of ``tokens`` but the first."""
        ids = torch.tensor([list(tokens)], device=self._device)
        known = {"adapter_names": [self._adapters.get(adapter, _BASE)]} if self._adapters else {}
        with torch.inference_mode():
            logits = self._model(input_ids=ids, use_cache=False, **known).logits[0, :-1].float()
            found = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])
        scores: list[float] = found[:, 0].tolist()
        return scores


class Rows:
    """Some streams by their numbers, one row each."""

    def __init__(self, number: int, adapter: str = "") -> None:
        """Begin with one row that has read nothing."""
        self.numbers = [number]
        self.lengths = [0]  # tokens read
        self._adapters = [adapter]
        self._cache = DynamicCache()

    @property
    def states(self) -> States:
        """Of the only row; what it reads afterwards does not change them."""
        return [(layer.keys, layer.values) for layer in self._cache.layers]

    def begin(self, states: States, length: int) -> None:
        """Let the only row, which has read nothing yet, have read the ``length`` tokens of ``states``."""
        for number, (keys, values) in enumerate(states):
            self._cache.update(keys, values, number)
        self.lengths = [length]

    def read(self, model: Model, tokens: Sequence[Sequence[int]]) -> Logits:
        """Read equally many ``tokens`` in each row; return logits FP32 [rows, vocabulary] of what comes after."""
        logits = model.read(torch.tensor(tokens), self.lengths, self._cache, self._adapters)
        self.lengths = [length + len(tokens[0]) for length in self.lengths]
        return logits

    def join(self, other: Rows) -> None:
        """Take over the rows of ``other``, which is of no use afterwards."""
        longest = max(*self.lengths, *other.lengths)
        for mine, its in zip(self._cache.layers, other._cache.layers, strict=True):
            mine.keys = torch.cat([_filled(mine.keys, longest), _filled(its.keys, longest)])
            mine.values = torch.cat([_filled(mine.values, longest), _filled(its.values, longest)])
        self.numbers += other.numbers
        self.lengths += other.lengths
        self._adapters += other._adapters

    def drop(self, gone: set[int]) -> None:
        """Let go of the rows of the streams ``gone``, and of filling that no row needs any more."""
        kept = [row for row, number in enumerate(self.numbers) if number not in gone]
        if len(kept) == len(self.numbers):
            return
        self.numbers = [self.numbers[row] for row in kept]
        self.lengths = [self.lengths[row] for row in kept]
        self._adapters = [self._adapters[row] for row in kept]
        if kept:
            longest = max(self.lengths)
            for layer in self._cache.layers:
                layer.keys = layer.keys[kept, ..., -longest:, :].contiguous()
                layer.values = layer.values[kept, ..., -longest:, :].contiguous()


def cut(states: States, length: int) -> States:
    """Return the ``states`` of the first ``length`` tokens, in the same memory."""
    return [(keys[..., :length, :], values[..., :length, :]) for keys, values in states]


def load_model(folder: Path, device: str, compute: str, threads: int, adapters: Mapping[str, Path]) -> Model:
    """Load the model in ``folder``, with ``adapters`` by name beside it. Raises EngineLoadFailed or InvalidModel."""
    torch.set_num_threads(threads)
    place = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = compute if compute != "auto" else "float32" if place == "cpu" else "bfloat16"
    try:
        config = AutoConfig.from_pretrained(folder, **_SAFE)
        if not all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=config).layers):
            raise EngineLoadFailed(
                "the model has layers that keep a state instead of keys and values",
                hint="engines `llamacpp` and `vllm` may read it",
            )
        model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, dtype=dtype, **_SAFE).to(place)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise EngineLoadFailed(f"transformers cannot load the model: {_first_line(error)}") from error
    names = {name: f"a{number}" for number, name in enumerate(adapters)}  # PEFT takes no dots in them
    if adapters:
        model = _adapted(model, {names[name]: each for name, each in adapters.items()})
    return Model(model.eval(), names)


def _adapted(model: Any, adapters: Mapping[str, Path]) -> Any:
    try:
        from peft import PeftModel

        (first, folder), *others = adapters.items()
        model = PeftModel.from_pretrained(model, folder, adapter_name=first, **_ADAPTED)
        for name, each in others:
            model.load_adapter(each, adapter_name=name, **_ADAPTED)
    except ModuleNotFoundError as error:
        raise EngineLoadFailed(f"adapters need {error.name!r}", hint="install extra `transformers`") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        raise EngineLoadFailed(f"an adapter does not fit the model: {_first_line(error)}") from error
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _filled(states: torch.Tensor, length: int) -> torch.Tensor:
    """Return ``states`` [rows, heads, n, width] with ``length`` tokens, zeros before them."""
    return torch.nn.functional.pad(states, (0, 0, length - states.shape[-2], 0))
