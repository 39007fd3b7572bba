"""Computes language models with OpenVINO GenAI's continuous batching on the CPU. Loaded through the catalog.

It reads GGUF files and folders of OpenVINO IR. ``step`` holds the interpreter's lock, so that a worker computes one
model and nothing else. Decoding is a look-up: the vocabulary says which bytes a token stands for, and a decoder for
each stream puts characters together.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import random
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino
import openvino_genai as genai

from mofang.base.domain.errors import (
    EngineFailed,
    EngineLoadFailed,
    InvalidModel,
    InvalidParameter,
    MofangError,
    Overloaded,
    PromptTooLong,
)
from mofang.base.domain.generation import Chosen, Constraint, Delta, Finish, Profile, Sampling
from mofang.base.engines.base import Options
from mofang.base.engines.gguf import read_gguf
from mofang.base.engines.options import chosen as options_of

_BLOCK_TOKENS = 32  # of OpenVINO's key-value cache on a CPU
MOST_GRAMMARS = 256  # different constraints that are kept compiled
_CONTEXT_TOKENS = 4096  # of a model that does not say
_FINISH: dict[Any, Finish] = {
    genai.GenerationFinishReason.NONE: "",
    genai.GenerationFinishReason.STOP: "stop",
    genai.GenerationFinishReason.LENGTH: "length",
}
_BYTE = re.compile(rb"<0x([0-9A-F]{2})>")
_SPACE = "\u2581".encode()  # how SentencePiece writes a space


class OpenVinoEngine:
    """A ``*.gguf`` file, or OpenVINO IR with its tokenizer, in a continuous batching pipeline.

    Options: see :mod:`.options`.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the model. Raises EngineLoadFailed, InvalidOption, or InvalidModel for a damaged file."""
        told = options_of("openvino", options)
        exact = told.pop("precision") == "full"
        chosen = {name: int(value) for name, value in told.items()}
        path, context, token_bytes = _look_at(folder)
        token_bytes *= 1 + exact  # of numbers that are kept in two bytes
        context = min(chosen["context"] or context, context)
        blocks = max(1, min(chosen["slots"] * context, (chosen["cache_mb"] << 20) // token_bytes) // _BLOCK_TOKENS)
        self._load = partial(_load, path, chosen["slots"], blocks, chosen["threads"], exact)
        try:
            self._pipeline = self._load()
            self._tokenizer = self._pipeline.get_tokenizer()
            self._words, template = _vocabulary(self._tokenizer), self._tokenizer.chat_template
        except Exception as error:  # the library raises RuntimeError for everything
            raise EngineLoadFailed(f"OpenVINO cannot load the model: {_first_line(error)}") from error
        self._usual = self._pipeline.get_config()
        self.profile = Profile(
            context_tokens=min(context, blocks * _BLOCK_TOKENS),
            slots=chosen["slots"],
            cache_tokens=blocks * _BLOCK_TOKENS,
            chat_template=template,
            bos=self._tokenizer.get_bos_token(),
            eos=self._tokenizer.get_eos_token(),
            constraints=("json", "schema", "regex"),
            vocabulary=len(self._words),
        )
        self._longest = max(map(len, self._words))
        self._streams: dict[int, _Stream] = {}
        self._caching = True
        self._grammars: set[Constraint] = set()  # compiled since the pipeline was made

    @property
    def grammars(self) -> int:
        """How many different constraints the library keeps compiled."""
        return len(self._grammars)

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        """See :meth:`GenerativeEngine.encode`."""
        most = self.profile.context_tokens - 1
        if len(text) > most * self._longest:  # no need to look
            raise _too_long(most)
        found = self._tokenizer.encode(text, add_special_tokens=opening).input_ids  # cut at the model's context
        tokens: list[int] = found.data[0].tolist() if found.size else []
        if len(tokens) > most:
            raise _too_long(most)
        return tokens

    def add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """See :meth:`GenerativeEngine.add`."""
        if sampling.constraint is not None:
            self._make_room(sampling.constraint)
        stream = _Stream(prompt, sampling, self._room(prompt, sampling))
        try:
            self._begin(number, stream)
        except RuntimeError as error:
            raise InvalidParameter.of("sampling", _reason(error)) from error
        self._streams[number] = stream

    def _make_room(self, constraint: Constraint) -> None:
        """Bound the library's cache of grammars, of a megabyte each, which forgets nothing: begin anew at times.

        Streams without a constraint go on from where they are; while others are computed, twice as many are kept, and
        then new ones have to come later.
        """
        if constraint not in self._grammars and len(self._grammars) >= MOST_GRAMMARS:
            if not any(stream.sampling.constraint for stream in self._streams.values()):
                self._renew()
            elif len(self._grammars) >= 2 * MOST_GRAMMARS:
                raise Overloaded("too many different formats are asked for at once", retry_after_seconds=1)
        self._grammars.add(constraint)

    def _renew(self) -> None:
        for stream in self._streams.values():
            stream.handle.cancel()
            stream.handle = None
        del self._pipeline, self._tokenizer  # before another is made: there may be no room for both
        self._pipeline = self._load()
        self._tokenizer = self._pipeline.get_tokenizer()
        self._grammars.clear()
        for number, stream in self._streams.items():
            self._begin(number, stream)

    def _room(self, prompt: Sequence[int], sampling: Sampling) -> int:
        room = self.profile.context_tokens - len(prompt)
        return min(sampling.max_tokens or room, room)

    def _begin(self, number: int, stream: _Stream) -> None:
        """Hand a stream to the pipeline, from where it is."""
        config = self._config(stream.sampling, stream.max_tokens - len(stream.ids))
        tokens = openvino.Tensor(np.array([[*stream.prompt, *stream.ids]], dtype=np.int64))
        stream.handle = self._pipeline.add_request(number, tokens, config)

    def cancel(self, number: int) -> None:
        """See :meth:`GenerativeEngine.cancel`."""
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.handle.cancel()

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        """See :meth:`GenerativeEngine.step`."""
        if not self._pipeline.has_non_finished_requests():
            return [], {}
        try:
            self._pipeline.step()
        except RuntimeError as error:
            return [], self._blame(error)
        deltas: list[Delta] = []
        for number, stream in list(self._streams.items()):
            delta = self._read(number, stream)
            if delta is not None:
                deltas.append(delta)
                if delta.finish:
                    del self._streams[number]
        return deltas, {}

    def score(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """See :class:`Scoring`. The library tells nothing of what its cache of prompts holds: it gives that up."""
        if self._caching:
            self._caching = False
            self._load = partial(self._load, caching=False)
            self._renew()
        config = genai.GenerationConfig()
        config.echo, config.logprobs, config.max_new_tokens = True, 1, 0  # the prompt again, and nothing after it
        tensors = [openvino.Tensor(np.array([text], dtype=np.int64)) for text in texts]
        handles = [self._pipeline.add_request(number, tensor, config) for number, tensor in enumerate(tensors)]
        found: list[list[float]] = [[] for _ in texts]
        try:
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
                for logs, handle in zip(found, handles, strict=True):
                    while handle.can_read():
                        (output,) = handle.read().values()
                        logs += output.generated_log_probs
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot score texts: {_reason(error)}") from error
        if any(len(logs) != len(text) for logs, text in zip(found, texts, strict=True)):
            raise EngineFailed("OpenVINO did not tell the probability of every token")
        return [logs[1:] for logs in found]  # of the first it says nothing: a placeholder

    def close(self) -> None:
        """Let go of the pipeline; the streams it still has end with it."""
        for number in list(self._streams):
            self.cancel(number)
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()  # a cancelled stream lets go of its memory with the next step
        del self._pipeline, self._tokenizer

    def _read(self, number: int, stream: _Stream) -> Delta | None:
        """Take what a step added to a stream; None if it added nothing, as while a long prompt is read."""
        text, tokens = "", 0
        finish: Finish = ""
        chosen: tuple[Chosen, ...] = ()
        while stream.handle.can_read():
            (output,) = stream.handle.read().values()
            finish = _FINISH[output.finish_reason]
            ids = output.generated_ids
            stream.ids += ids
            tokens += len(ids)
            words = [self._words[each] for each in ids]
            text += stream.decoder.decode(b"".join(words), bool(finish))
            if stream.sampling.logprobs is not None:
                chosen += tuple(map(Chosen, words, output.generated_log_probs))
        return Delta(number, text, tokens, finish, chosen) if tokens or finish else None

    def _blame(self, error: RuntimeError) -> dict[int, MofangError]:
        """Drop the streams that may have made a step fail, and begin the others anew from where they are.

        A constraint is read when its stream begins; one that cannot be leaves the whole pipeline inside a step.
        """
        fresh = {number for number, each in self._streams.items() if each.sampling.constraint and not each.ids}
        failure: MofangError = EngineFailed(f"OpenVINO cannot compute a step: {_reason(error)}")
        if fresh:
            failure = InvalidParameter.of("response_format", f"the engine cannot keep to it: {_reason(error)}")
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.handle.cancel()
        with contextlib.suppress(RuntimeError):
            self._pipeline.step()  # lets go of what was cancelled
        failures: dict[int, MofangError] = {}
        for number, stream in streams.items():
            if number in fresh or not fresh:
                failures[number] = failure
            elif stream.sampling.constraint:  # how far it has come in its grammar is lost
                failures[number] = EngineFailed("the stream was lost with another that failed", hint="ask again")
            else:
                self._begin(number, stream)
                self._streams[number] = stream
        return failures

    def _config(self, sampling: Sampling, max_tokens: int) -> Any:
        config = genai.GenerationConfig()
        config.eos_token_id = self._usual.eos_token_id
        config.stop_token_ids = self._usual.stop_token_ids
        config.max_new_tokens = max_tokens
        config.presence_penalty, config.frequency_penalty = sampling.presence_penalty, sampling.frequency_penalty
        if sampling.temperature > 0:
            config.do_sample, config.temperature = True, max(sampling.temperature, 0.01)
            config.top_p = max(sampling.top_p, 1e-6)
            if sampling.top_k:
                config.top_k = sampling.top_k
            seed = random.getrandbits(31) if sampling.seed is None else sampling.seed
            config.rng_seed = seed % 2**31
        if sampling.logprobs is not None:
            config.logprobs = 1
        if sampling.constraint is not None:
            config.structured_output_config = _structure(sampling.constraint)
        return config


class _Stream:
    """What is kept of a stream: what it was asked, what it has said, and the bytes that are no character yet."""

    __slots__ = ("decoder", "handle", "ids", "max_tokens", "prompt", "sampling")

    def __init__(self, prompt: Sequence[int], sampling: Sampling, max_tokens: int) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.max_tokens = max_tokens
        self.ids: list[int] = []
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.handle: Any = None


def _look_at(folder: Path) -> tuple[Path, int, int]:
    """Return what to load, its context in tokens, and the bytes that one token takes in the cache."""
    files = sorted(folder.glob("*.gguf"))
    if len(files) == 1:
        about = read_gguf(files[0])
        known = {name.removeprefix(about.architecture + "."): value for name, value in about.metadata.items()}
        heads = _number(known, "attention.head_count", 32)
        sizes = (_number(known, "block_count", 32), _number(known, "attention.head_count_kv", heads),
                 _number(known, "embedding_length", 4096) // heads)  # fmt: skip
        return files[0], about.context_length or _CONTEXT_TOKENS, _token_bytes(*sizes)
    try:
        known = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidModel(
            f"the artifact has {len(files)} .gguf files and no 'config.json' of an OpenVINO model",
            hint="push one .gguf file, or the folder that optimum-intel exported",
        ) from error
    heads = _number(known, "num_attention_heads", 32)
    sizes = (_number(known, "num_hidden_layers", 32), _number(known, "num_key_value_heads", heads),
             _number(known, "head_dim", _number(known, "hidden_size", 4096) // heads))  # fmt: skip
    return folder, _number(known, "max_position_embeddings", _CONTEXT_TOKENS), _token_bytes(*sizes)


def _number(known: Any, name: str, otherwise: int) -> int:
    value = known.get(name)
    return value if isinstance(value, int) and value > 0 else otherwise


def _token_bytes(layers: int, heads: int, size: int) -> int:
    """Return the bytes of one token's keys and values, one each, with a scale and a zero point for each head."""
    return layers * heads * (size + 12) * 2


def _load(path: Path, slots: int, blocks: int, threads: int, exact: bool, *, caching: bool = True) -> Any:
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_seqs = slots
    scheduler.enable_prefix_caching = caching
    scheduler.dynamic_split_fuse = True  # a long prompt is read in parts, between which other streams go on
    properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0))}
    if exact:
        properties |= {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f16"}
    return genai.ContinuousBatchingPipeline(str(path), scheduler, "CPU", properties)


def _vocabulary(tokenizer: Any) -> list[bytes]:
    """Return the bytes of every token; none for those that only structure a conversation."""
    ids = sorted((number, word) for word, number in tokenizer.get_vocab().items())
    words = [b""] * (ids[-1][0] + 1)
    spaced = sum(word.startswith(_SPACE) for _, word in ids) > len(ids) // 20
    for number, word in ids:
        if spaced:
            single = _BYTE.fullmatch(word)
            word = bytes([int(single[1], 16)]) if single else word.replace(_SPACE, b" ")
        words[number] = word
    shown: list[str] = tokenizer.decode([[number] for number, _ in ids], skip_special_tokens=True)
    for (number, word), text in zip(ids, shown, strict=True):
        if not text and word.startswith(b"<"):
            words[number] = b""
    return words


def _structure(constraint: Constraint) -> Any:
    match constraint.kind:
        case "json":
            return genai.StructuredOutputConfig(json_schema='{"type": "object"}')
        case "schema":
            return genai.StructuredOutputConfig(json_schema=constraint.text)
        case "regex":
            return genai.StructuredOutputConfig(regex=constraint.text)


def _too_long(most: int) -> PromptTooLong:
    return PromptTooLong(f"the prompt has more than {most:,} tokens, the context of this model")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _reason(error: Exception) -> str:
    """Return what the library says, without the place in its source."""
    return re.sub(
        r"^.*?\.(?:cc|cpp|hpp):\d+:\s*(?:Check failed: \(.*?\) is false: )?", "", str(error).strip(), flags=re.S
    )[:300]
