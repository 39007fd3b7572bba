"""The replica of a language model: a bounded queue that is fair by tokens, slots, and a generative engine.

A worker calls :meth:`StreamReplica.submit` and :meth:`StreamReplica.drop` between steps, and :meth:`StreamReplica.step`
as long as there is something to do, all in one thread: the engine's owner. It knows no event loop and no wire.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import (
    ConversationRefused,
    EngineFailed,
    InvalidParameter,
    MofangError,
    Overloaded,
    PromptTooLong,
    WarmUpFailed,
)
from mofang.base.domain.generation import Chosen, Delta, Occupancy, Order, Profile, Sampling
from mofang.base.domain.inference import Call
from mofang.base.engines.base import Conversational, GenerativeEngine, Options
from mofang.base.engines.template import ChatTemplate
from mofang.base.placement.deadlines import expired
from mofang.base.placement.queue import FairQueue
from mofang.base.placement.tail import Tail
from mofang.base.placement.tally import Tally, Uncounted

_QUEUED_PER_SLOT = 32
_WARM_UP_SECONDS = 120.0
_EXPECTED_TOKENS = (
    512  # of an answer, at most, when a tenant's share is counted: most answers end long before their bound
)
_READ_AT_ONCE = 1024
"""Tokens of prompts that are read side by side: engines read one prompt after the other, in the order in which they got
them, so that more would only mean that who comes next waits for all of them, whoever sent them."""

Event = Delta | MofangError


@dataclass(eq=False)
class Stream:
    """One order on its way through a replica: the ticket that waits in the queue, then the stream that is computed.

    ``asker`` and ``id`` are the owner's, to find out whom an event is for.
    """

    asker: object
    id: int
    order: Order
    call: Call
    prompt: Sequence[int]
    tail: Tail
    reach: int  # tokens it takes in the cache, at most
    number: int = 0  # the engine's, and the queue's
    size_bytes: int = 0
    queued_at: float = 0.0
    queue_us: int = 0
    dropped: bool = False
    begun: bool = False  # whether anything was told
    said: int = 0  # tokens so far
    tokens: int = 0  # not told yet, as the next two
    compute_us: float = 0.0
    chosen: list[Chosen] = field(default_factory=list)

    def done(self) -> bool:
        """Whether nobody waits any more."""
        return self.dropped

    def set_result(self, answer: object, /) -> None:
        """See :class:`Ticket`; a stream is told its deltas by its owner."""

    def set_exception(self, error: MofangError, /) -> None:
        """See :class:`Ticket`."""


def open_streams(
    load: Callable[[str, Path, Options], GenerativeEngine | Conversational],
    engine: str,
    folder: Path,
    limits: ReplicaLimits,
    options: Options | None = None,
    tally: Tally | None = None,
) -> StreamReplica:
    """Load and warm up; blocks. What it says is counted by ``tally``.

    Raises EngineNotFound, EngineLoadFailed or WarmUpFailed.
    """
    loaded = load(engine, folder, options or {})
    try:
        if not isinstance(loaded, Conversational):  # a word from elsewhere costs money
            _warm_up(loaded)
        return StreamReplica(loaded, limits, tally)
    except BaseException:
        loaded.close()
        raise


def _warm_up(engine: GenerativeEngine) -> None:
    """Say two tokens, so that the first who asks does not wait for what is made once."""
    until = time.monotonic() + _WARM_UP_SECONDS
    try:
        engine.add(0, engine.encode("Hello", opening=True), Sampling(max_tokens=2, temperature=0.0))
        said = 0
        while time.monotonic() < until:
            deltas, failures = engine.step()
            if failures:
                raise failures[0]
            said += sum(delta.tokens for delta in deltas)
            if deltas and deltas[-1].finish:
                break
    except MofangError as error:
        raise WarmUpFailed(f"the model loads but says nothing: {error}") from error
    if not said:
        raise WarmUpFailed("the model loads but says nothing")


class StreamReplica:
    """Streams that wait and streams that are computed."""

    def __init__(
        self, engine: GenerativeEngine | Conversational, limits: ReplicaLimits, tally: Tally | None = None
    ) -> None:
        """Take over ``engine``. Raises EngineLoadFailed if its chat template is none."""
        self._engine = engine
        self._tally = tally or Uncounted()
        self.profile: Profile = engine.profile
        about = self.profile
        self._template = ChatTemplate(about.chat_template, about.bos, about.eos) if about.chat_template else None
        self._most_waiting = min(limits.max_queue, _QUEUED_PER_SLOT * about.slots)
        self._queue = FairQueue(self._most_waiting, limits.max_queue_bytes)
        self.held: set[Stream] = set()  # that wait for a word first
        self._running: dict[int, Stream] = {}
        self._reach = 0  # of all that run
        self._pushed_out: list[Stream] = []
        self._numbers = 0
        self._pace = 0.0  # tokens a second, read and written, of all streams together, lately; 0: not measured yet

    @property
    def busy(self) -> bool:
        """Whether there is something to compute or to tell."""
        return bool(self._running or self._queue.count or self._pushed_out)

    @property
    def occupancy(self) -> Occupancy:
        """How full it is."""
        held = sum(len(stream.prompt) + stream.said for stream in self._running.values())
        return Occupancy(len(self._running), self._queue.count, held, self.profile.cache_tokens)

    def submit(self, asker: object, id: int, order: Order) -> Stream:
        """Queue ``order``, or keep it until it may :meth:`proceed`.

        Raises ConversationRefused, PromptTooLong, InvalidParameter, DeadlineExceeded or Overloaded.
        """
        now = time.monotonic()
        if order.deadline <= now:
            raise expired()
        self._check(order)
        prompt = self._prompt(order)
        if not prompt:
            raise ConversationRefused("the prompt is empty", hint="send at least one character")
        room = self.profile.context_tokens - len(prompt)
        if room < 1:
            raise PromptTooLong(
                f"the prompt has about {len(prompt):,} tokens, the context {self.profile.context_tokens:,}"
            )
        answer = min(order.sampling.max_tokens or room, room)
        expected = len(prompt) + min(answer, _EXPECTED_TOKENS)
        call = Call(order.request_id, order.tenant, {}, expected, order.deadline, order.priority, order.weight)
        stream = Stream(asker, id, order, call, prompt, Tail(order.sampling.stop), len(prompt) + answer)
        stream.size_bytes = 8 * len(prompt)
        if not order.held:
            self._queue_up(stream)
        elif len(self.held) >= self._most_waiting:
            raise Overloaded("too many requests wait for their budgets", retry_after_seconds=1)
        else:
            self.held.add(stream)
        return stream

    def proceed(self, stream: Stream) -> None:
        """Queue a stream that was held. Raises Overloaded."""
        if stream in self.held:
            self.held.remove(stream)
            self._queue_up(stream)

    def _queue_up(self, stream: Stream) -> None:
        now = stream.queued_at = time.monotonic()
        wait = self._queue.rows / self._pace if self._pace else 0.0
        if now + wait > stream.order.deadline:
            raise Overloaded(f"about {wait:.0f} s of work wait already", retry_after_seconds=self._retry_after())
        try:
            self._pushed_out += self._queue.push(stream)  # type: ignore[arg-type]  # all that is in it are streams
        except Overloaded as error:
            error.retry_after_seconds = self._retry_after()
            raise

    def drop(self, stream: Stream) -> None:
        """Nobody waits for ``stream`` any more: its slot is free from the next step on."""
        stream.dropped = True
        self.held.discard(stream)
        if self._running.pop(stream.number, None) is not None:
            self._reach -= stream.reach
            self._engine.cancel(stream.number)

    def step(self) -> list[tuple[Stream, Event]]:
        """Fill free slots from the queue, compute a step, and return what is to be told."""
        events: list[tuple[Stream, Event]] = []
        for stream in self._pushed_out:
            events.append((stream, self._crowded_out()))
        self._pushed_out = []
        now = time.monotonic()
        self._end_late(now, events)
        self._fill(now, events)
        if not self._running:
            return events
        deltas, failures = self._compute()
        seconds = max(time.monotonic() - now, 1e-6)
        share_us = seconds * 1e6 / len(self._running)
        for stream in self._running.values():
            stream.compute_us += share_us
        work = 0
        for delta in deltas:
            if (speaking := self._running.get(delta.stream)) is not None:
                work += delta.tokens + (0 if speaking.begun else len(speaking.prompt))
                self._take(speaking, delta, events)
        self._pace += (0.05 if self._pace else 1.0) * (work / seconds - self._pace)
        for number, error in failures.items():
            if (failed := self._running.pop(number, None)) is not None:
                self._reach -= failed.reach
                events.append((failed, error))
        return events

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.close()
        self._tally.close()

    def _check(self, order: Order) -> None:
        """Raise InvalidParameter for what this engine does not do."""
        sampling = order.sampling
        if (sampling.logprobs or 0) > self.profile.alternatives:
            raise InvalidParameter.of(
                "top_logprobs", f"the engine of this model tells at most {self.profile.alternatives} alternatives"
            )
        if sampling.adapter and sampling.adapter not in self.profile.adapters:
            raise InvalidParameter.of("model", f"the engine of this model has no adapter {sampling.adapter!r}")
        if sampling.constraint is not None and sampling.constraint.kind not in self.profile.constraints:
            raise InvalidParameter.of("response_format", "the engine of this model keeps to no such format")

    def _prompt(self, order: Order) -> Sequence[int]:
        engine = self._engine
        if isinstance(engine, Conversational):
            if order.tokens:
                raise InvalidParameter.of("prompt", "this model takes text, not tokens")
            return range(engine.guess(order))
        if order.messages:
            return engine.encode(self._write(order))
        if not order.tokens:
            return engine.encode(order.text, opening=True)
        most, known = self.profile.context_tokens - 1, self.profile.vocabulary
        if len(order.tokens) > most:
            raise PromptTooLong(f"the prompt has more than {most:,} tokens, the context of this model")
        if not 0 <= min(order.tokens) <= max(order.tokens) < known:
            raise InvalidParameter.of("prompt", f"the tokens of this model are 0 to {known - 1:,}")
        return order.tokens

    def _write(self, order: Order) -> str:
        if self._template is None:
            raise ConversationRefused(
                "this model has no chat template", hint="send plain text to /v1/completions instead"
            )
        if self._template.knows_tools:
            return self._template.render(order.messages, order.tools)
        if order.tools and order.sampling.constraint is None:  # which names the one to call, if there is one
            raise ConversationRefused(
                "the chat template of this model knows no tools", hint="leave `tools` out, or name one in `tool_choice`"
            )
        return self._template.render(order.messages)

    def _fill(self, now: float, events: list[tuple[Stream, Event]]) -> None:
        here = not isinstance(self._engine, Conversational)  # elsewhere, prompts are read by others' rules
        reading = sum(len(stream.prompt) for stream in self._running.values() if not stream.said) if here else 0
        while len(self._running) < self.profile.slots and (ticket := self._queue.peek()) is not None:
            stream: Stream = ticket  # type: ignore[assignment]  # all that is in the queue are streams
            if stream.dropped:
                self._queue.drop()
            elif stream.order.deadline <= now:
                self._queue.drop()
                events.append((stream, expired()))
            elif self._running and self._reach + stream.reach > self.profile.cache_tokens:
                return  # it is this stream's turn: smaller ones behind it do not overtake it
            elif reading and reading + len(stream.prompt) > _READ_AT_ONCE:
                return
            else:
                self._queue.pop()
                reading += len(stream.prompt) if here else 0
                self._begin(stream, now, events)

    def _begin(self, stream: Stream, now: float, events: list[tuple[Stream, Event]]) -> None:
        self._numbers += 1
        stream.number = self._numbers
        stream.queue_us = round((now - stream.queued_at) * 1e6)
        try:
            if isinstance(self._engine, Conversational):
                self._engine.converse(stream.number, stream.order, len(stream.prompt))
            else:
                self._engine.add(stream.number, stream.prompt, stream.order.sampling)
        except MofangError as error:
            events.append((stream, error))
        else:
            self._running[stream.number] = stream
            self._reach += stream.reach

    def _compute(self) -> tuple[list[Delta], Mapping[int, MofangError]]:
        try:
            return self._engine.step()
        except EngineFailed as error:
            for number in self._running:
                self._engine.cancel(number)
            return [], dict.fromkeys(self._running, error)

    def _take(self, stream: Stream, delta: Delta, events: list[tuple[Stream, Event]]) -> None:
        """Pass on what was added to a stream, but for what may become a stop and what comes after one."""
        stream.tokens += delta.tokens
        stream.said += delta.tokens
        stream.chosen += delta.chosen
        text = stream.tail.feed(delta.text)
        finish = delta.finish
        if stream.tail.met:
            finish = "stop"
            self._engine.cancel(stream.number)
        elif finish:
            text += stream.tail.flush()
        if finish:
            del self._running[stream.number]
            self._reach -= stream.reach
        if text or finish or not stream.begun:
            told = Delta(stream.id, text, stream.tokens, finish, tuple(stream.chosen), delta.cached_tokens,
                         round(stream.compute_us), stream.queue_us, stream.tail.met, delta.input_tokens,
                         delta.estimated)  # fmt: skip
            self._count(stream, told)
            stream.tokens, stream.compute_us, stream.queue_us, stream.chosen, stream.begun = 0, 0.0, 0, [], True
            events.append((stream, told))

    def _count(self, stream: Stream, told: Delta) -> None:
        """Count what is told: the request and the prompt, once each, with the first that is said of them.

        Tokens of a prompt that were only guessed are set right when the engine tells.
        """
        order = stream.order
        work = {"output_tokens": told.tokens, "compute_us": told.compute_us}
        if order.part % order.choices == 0:  # of several choices, the first has read the prompt
            work["cached_tokens"] = told.cached_tokens
            work["input_tokens"] = told.input_tokens - told.cached_tokens
            if not stream.begun:
                work["input_tokens"] += len(stream.prompt)
        if not stream.begun:
            work["requests"] = int(order.part == 0)
        self._tally.add(order.tenant, work)

    def _end_late(self, now: float, events: list[tuple[Stream, Event]]) -> None:
        for stream in [each for each in self._running.values() if each.order.deadline <= now]:
            self.drop(stream)
            events.append((stream, expired()))

    def _crowded_out(self) -> Overloaded:
        return Overloaded(
            "the queue is full, and this tenant holds the largest part of it", retry_after_seconds=self._retry_after()
        )

    def _retry_after(self) -> int:
        return min(600, max(1, math.ceil(self._queue.rows / self._pace))) if self._pace else 1
