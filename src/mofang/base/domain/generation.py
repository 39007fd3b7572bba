"""What a language model is asked and what it says, free of any protocol and any engine.

A request becomes one :class:`Order` for each choice it wants; an engine answers an order with :class:`Delta` after
:class:`Delta`, the last of which says why it ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from mofang.base.domain.tensors import Signature, TensorSpec

TEXT_SIGNATURE = Signature((TensorSpec("text_input", "BYTES", (1,)),), (TensorSpec("text_output", "BYTES", (1,)),))
"""Of every language model: a text goes in, one comes out piece by piece; named as in the Open Inference Protocol."""

Finish = Literal["", "stop", "length"]
"""Why a stream ended: by itself or at a stop string; at its bound of tokens. Empty while it goes on."""
ConstraintKind = Literal["json", "schema", "regex"]


class Constraint(msgspec.Struct, frozen=True, array_like=True):
    """What the text must be: any JSON object, JSON of the schema ``text``, or a match of the expression ``text``."""

    kind: ConstraintKind
    text: str = ""


class Sampling(msgspec.Struct, frozen=True, array_like=True):
    """How tokens are chosen, and when to stop. ``temperature`` 0 always takes the likeliest."""

    max_tokens: int = 0  # 0: as many as the context has room for
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()  # texts at which to stop; they are not part of the answer
    logprobs: int | None = None  # None: none; else how many alternatives to each token
    constraint: Constraint | None = None
    adapter: str = ""  # of the model, by its name; empty: the model itself


class Order(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """One stream that is asked for: a conversation for the model's chat template, or the very text or tokens to go on
    from."""

    request_id: str
    tenant: str
    deadline: float  # on time.monotonic(), seconds; the same clock in every process of a machine
    sampling: Sampling
    text: str = ""
    messages: Sequence[Mapping[str, Any]] = ()  # if there are any, ``text`` is not looked at
    tools: Sequence[Mapping[str, Any]] = ()
    tokens: Sequence[int] = ()  # the prompt, if it is there in tokens already
    priority: int = 0
    weight: float = 1.0
    part: int = 0  # which order of its request it is
    choices: int = 1  # how many orders of the request, one after the other, have the same prompt
    held: bool = False  # say what it may use at most, and wait for a word before it takes its place in the queue


class Chosen(msgspec.Struct, frozen=True, array_like=True):
    """A token that was chosen, its logarithmic probability, and those of the likeliest alternatives."""

    text: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...] = ()


class Delta(msgspec.Struct, frozen=True, array_like=True):
    """What was added to a stream. ``tokens`` may be more than ``text`` shows yet: characters come whole."""

    stream: int
    text: str = ""
    tokens: int = 0
    finish: Finish = ""
    chosen: tuple[Chosen, ...] = ()
    cached_tokens: int = 0  # of the prompt, not computed anew; with the first, where the engine knows
    compute_us: int = 0  # the stream's shares of the steps since the last
    queue_us: int = 0  # with the first
    stopped_at: str = ""  # with the last: the text of ``Sampling.stop`` that ended it
    input_tokens: int = 0  # with the last, of prompts whose tokens could only be guessed: how many more there were
    estimated: bool = False  # whether what was counted of this stream, up to here, is a guess and not the engine's word


class Profile(msgspec.Struct, frozen=True, array_like=True):
    """What a loaded language model can do."""

    context_tokens: int  # of prompt and answer together
    slots: int  # streams computed side by side
    cache_tokens: int  # of all streams together
    chat_template: str = ""  # Jinja; empty: it cannot hold a conversation
    bos: str = ""
    eos: str = ""
    constraints: tuple[ConstraintKind, ...] = ()
    alternatives: int = 0  # most alternatives to a token that it tells
    vocabulary: int = 0  # tokens there are, from 0
    adapters: tuple[str, ...] = ()  # that a stream can be computed with


class Occupancy(msgspec.Struct, frozen=True, array_like=True):
    """How full a replica of a language model is; those of several add up."""

    running: int = 0  # streams that are computed
    waiting: int = 0  # streams in the queue
    cache_tokens: int = 0  # whose keys and values streams hold now
    room_tokens: int = 0  # that have room in the cache

    def __add__(self, other: Occupancy) -> Occupancy:
        return Occupancy(
            self.running + other.running,
            self.waiting + other.waiting,
            self.cache_tokens + other.cache_tokens,
            self.room_tokens + other.room_tokens,
        )
