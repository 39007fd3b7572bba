"""Computes folders of Hugging Face safetensors with PyTorch, many streams side by side. Loaded through the catalog.

The engine for what was fine-tuned here, and for architectures that no other engine reads; on a CPU others are several
times faster. A step reads a bounded piece of the prompts that wait, and then one token of every stream in one
computation. What streams leave of the memory for keys and values holds prompts that were read lately: one that begins
alike is read from there on. No code in the folder is run, nothing is fetched, and weights are read from safetensors
alone.
"""

from __future__ import annotations

import codecs
import os
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import transformers
from tokenizers import Tokenizer

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed, InvalidParameter, MofangError, PromptTooLong
from mofang.base.domain.generation import Chosen, Delta, Finish, Profile, Sampling
from mofang.base.engines.adapters import INSIDE
from mofang.base.engines.base import Options
from mofang.base.engines.causal import read_causal
from mofang.base.engines.choosing import Choice, Chooser, Logits
from mofang.base.engines.options import chosen as options_of
from mofang.base.engines.transformers.prefixes import Prefixes
from mofang.base.engines.transformers.torch import Rows, load_model
from mofang.base.engines.vocabulary import token_bytes

_PIECE_TOKENS = 256  # of prompts, read in one step: the other streams wait meanwhile
_MOST_ALTERNATIVES = 20
_OWN = "own adapter"  # no name that a request can give


class TransformersEngine:
    """A causal model with its tokenizer, and in a folder ``adapter`` one that is laid over it always, if there is one.

    Options: see :mod:`.options`.
    """

    def __init__(self, folder: Path, options: Options, adapters: Mapping[str, Path] = MappingProxyType({})) -> None:
        """Load the model, and ``adapters`` by name from their folders. Raises EngineLoadFailed or InvalidModel."""
        chosen = options_of("transformers", options)
        about = read_causal(folder)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        threads = int(chosen["threads"]) or len(os.sched_getaffinity(0))
        own = {_OWN: folder / INSIDE} if (folder / INSIDE).is_dir() else {}
        self._usual = next(iter(own), "")
        self._model = load_model(folder, str(chosen["device"]), str(chosen["compute"]), threads, {**own, **adapters})
        self._tokenizer = _tokenizer(folder)
        self._words = _words(self._tokenizer)
        self._ends = about.ends
        slots = int(chosen["slots"])
        fitting = (int(chosen["cache_mb"]) << 20) // (about.token_values * self._model.value_bytes)
        context = min(int(chosen["context"]) or about.context_tokens, about.context_tokens, fitting)
        self.profile = Profile(
            context_tokens=context,
            slots=slots,
            cache_tokens=min(fitting, slots * context),
            chat_template=about.chat_template,
            bos=about.bos,
            eos=about.eos,
            alternatives=_MOST_ALTERNATIVES,
            vocabulary=len(self._words),
            adapters=tuple(adapters),
        )
        self._longest = max(map(len, self._words))
        self._fitting = fitting  # tokens, of streams and of prompts that are kept
        self._prefixes = Prefixes()
        self._streams: dict[int, _Stream] = {}
        self._reading: deque[_Stream] = deque()  # whose prompts are not read to the end
        self._speaking: list[Rows] = []

    def encode(self, text: str, *, opening: bool = False) -> Sequence[int]:
        """See :meth:`GenerativeEngine.encode`."""
        most = self.profile.context_tokens - 1
        if len(text) > most * self._longest:  # no need to look
            raise _too_long(most)
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=opening).ids
        if len(tokens) > most:
            raise _too_long(most)
        return tokens

    def add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        """See :meth:`GenerativeEngine.add`."""
        if sampling.constraint is not None:
            raise InvalidParameter.of("response_format", "this engine keeps to no format")
        room = self.profile.context_tokens - len(prompt)
        stream = _Stream(number, prompt, sampling, min(sampling.max_tokens or room, room), self._usual)
        self._streams[number] = stream
        self._reading.append(stream)
        self._prefixes.shrink(self._room)

    def cancel(self, number: int) -> None:
        """See :meth:`GenerativeEngine.cancel`."""
        self._streams.pop(number, None)

    def step(self) -> tuple[list[Delta], dict[int, MofangError]]:
        """See :meth:`GenerativeEngine.step`."""
        self._tidy()
        try:
            deltas = [delta for rows in self._speaking for delta in self._speak(rows)]
            return deltas + self._read(), {}
        except RuntimeError as error:  # also when memory is short
            raise EngineFailed(f"PyTorch cannot compute a step: {str(error)[:300]}") from error

    def score(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """See :class:`Scoring`."""
        try:
            return [self._model.score(text, self._usual) for text in texts]
        except RuntimeError as error:  # also when memory is short
            raise EngineFailed(f"PyTorch cannot score texts: {str(error)[:300]}") from error

    def close(self) -> None:
        """Let go of the model."""
        self._streams.clear()
        self._speaking.clear()
        self._reading.clear()
        self._prefixes.clear()
        del self._model

    @property
    def _room(self) -> int:
        """Tokens that no stream may come to need."""
        return max(0, self._fitting - sum(stream.reach for stream in self._streams.values()))

    def _tidy(self) -> None:
        """Let go of streams that have ended, and put those together that fit: filled up, within the cache."""
        kept: list[Rows] = []
        for rows in self._speaking:
            rows.drop(set(rows.numbers) - self._streams.keys())
            if not rows.numbers:
                continue
            joining = next((other for other in kept if self._fit(other, rows)), None)
            if joining is None:
                kept.append(rows)
            else:
                joining.join(rows)
        self._speaking = kept

    def _fit(self, one: Rows, other: Rows) -> bool:
        """Tell whether two groups take no more than all their streams may, when they are filled up to the longest."""
        reaches = [self._streams[number].reach for number in (*one.numbers, *other.numbers)]
        others = sum(stream.reach for stream in self._streams.values()) - sum(reaches)
        return len(reaches) * max(reaches) + others <= self.profile.cache_tokens

    def _speak(self, rows: Rows) -> list[Delta]:
        """Compute one more token of each stream of a group."""
        streams = [self._streams[number] for number in rows.numbers]
        logits = rows.read(self._model, [[stream.last] for stream in streams])
        return [self._take(stream, each) for stream, each in zip(streams, logits, strict=True)]

    def _read(self) -> list[Delta]:
        """Read on in the prompts that wait, the oldest first."""
        deltas: list[Delta] = []
        left = _PIECE_TOKENS
        while self._reading and left > 0:
            stream = self._reading[0]
            if self._streams.get(stream.number) is not stream:  # cancelled
                self._reading.popleft()
                continue
            begin = stream.rows.lengths[0] or self._recall(stream)
            piece = stream.prompt[begin : begin + left]
            left -= len(piece)
            logits = stream.rows.read(self._model, [piece])
            if begin + len(piece) == len(stream.prompt):
                self._reading.popleft()
                self._prefixes.keep(stream.prompt, stream.adapter, stream.rows.states)
                self._prefixes.shrink(self._room)
                self._speaking.append(stream.rows)
                deltas.append(self._take(stream, logits[0], stream.cached))
        return deltas

    def _recall(self, stream: _Stream) -> int:
        """Begin a stream with what is known of its prompt; return how many tokens of it need not be read."""
        states, stream.cached = self._prefixes.find(stream.prompt, stream.adapter)
        stream.rows.begin(states, stream.cached)
        return stream.cached

    def _take(self, stream: _Stream, logits: Logits, cached: int = 0) -> Delta:
        choice = stream.chooser.choose(logits[: len(self._words)])
        finish: Finish = ""
        stream.said += 1
        stream.last = choice.token
        if choice.token in self._ends:
            finish = "stop"
        elif stream.said >= stream.max_tokens:
            finish = "length"
        if finish:
            del self._streams[stream.number]
        word = b"" if choice.token in self._ends else self._words[choice.token]
        chosen = () if stream.logprobs is None else (self._chosen(choice),)
        return Delta(stream.number, stream.decoder.decode(word, bool(finish)), 1, finish, chosen, cached)

    def _chosen(self, choice: Choice) -> Chosen:
        top = tuple((self._words[token], logprob) for token, logprob in choice.top)
        return Chosen(self._words[choice.token], choice.logprob, top)


class _Stream:
    """What is kept of a stream: what it was asked, how far it is, and the bytes that are no character yet."""

    __slots__ = (
        "adapter", "cached", "chooser", "decoder", "last", "logprobs", "max_tokens", "number", "prompt", "reach",
        "rows", "said",
    )  # fmt: skip

    def __init__(self, number: int, prompt: Sequence[int], sampling: Sampling, max_tokens: int, usual: str) -> None:
        self.number = number
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.reach = len(prompt) + max_tokens  # tokens it takes in the cache, at most
        self.logprobs = sampling.logprobs
        self.chooser = Chooser(sampling)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.adapter = sampling.adapter or usual
        self.cached = 0  # tokens of the prompt that were not read anew
        self.rows = Rows(number, self.adapter)
        self.said = 0
        self.last = -1  # the token that was chosen, and is not read yet


def _tokenizer(folder: Path) -> Any:
    try:
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises Exception itself
        raise EngineLoadFailed(f"'tokenizer.json' cannot be read: {error}") from error
    found.no_truncation()
    found.no_padding()
    return found


def _words(tokenizer: Any) -> list[bytes]:
    added = tokenizer.get_added_tokens_decoder()
    shown = {number: "" if each.special else each.content for number, each in added.items()}
    byte_level = "ByteLevel" in str(tokenizer.decoder)
    return token_bytes(tokenizer.get_vocab(with_added_tokens=True), shown, byte_level=byte_level)


def _too_long(most: int) -> PromptTooLong:
    return PromptTooLong(f"the prompt has more than {most:,} tokens, the context of this model")
