"""The replica of a language model, step by step, around a scripted engine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.errors import (
    ConversationRefused,
    DeadlineExceeded,
    EngineFailed,
    InvalidParameter,
    MofangError,
    Overloaded,
    PromptTooLong,
)
from mofang.base.domain.generation import Constraint, Delta, Order, Sampling
from mofang.base.placement.streams import StreamReplica
from mofang.base.placement.tally import Tally
from scripted_generator import ScriptedGenerator


def order(text: str = "abc", tenant: str = "t", seconds: float = 60, **more: Any) -> Order:
    said = {name: more.pop(name) for name in ("messages", "tools") if name in more}
    parts = {name: more.pop(name) for name in ("part", "choices", "held") if name in more}
    return Order("r", tenant, time.monotonic() + seconds, Sampling(**more), "" if said else text, **said, **parts)


class Stage:
    """A replica, and what it told each stream."""

    def __init__(self, limits: ReplicaLimits | None = None, tally: Tally | None = None, **engine: Any) -> None:
        self.engine = ScriptedGenerator(**engine)
        self.replica = StreamReplica(self.engine, limits or ReplicaLimits(), tally)
        self.told: dict[int, list[Delta]] = {}
        self.failed: dict[int, MofangError] = {}
        self.number = 0

    def ask(self, *args: Any, **more: Any) -> Any:
        self.number += 1
        return self.replica.submit(self, self.number, order(*args, **more))

    def run(self, steps: int = 1000) -> Stage:
        while self.replica.busy and steps:
            steps -= 1
            for stream, event in self.replica.step():
                if isinstance(event, Delta):
                    assert event.stream == stream.id
                    self.told.setdefault(stream.id, []).append(event)
                else:
                    self.failed[stream.id] = event
        return self

    def text(self, number: int) -> str:
        return "".join(delta.text for delta in self.told[number])


def test_streams_are_computed_side_by_side_and_counted_exactly() -> None:
    stage = Stage()
    stage.ask("hello"), stage.ask("«wide world»")
    stage.run()
    assert (stage.text(1), stage.text(2)) == ("hello", "wide world")
    assert [sum(delta.tokens for delta in stage.told[n]) for n in (1, 2)] == [5, 10]
    assert [stage.told[n][-1].finish for n in (1, 2)] == ["stop", "stop"]
    assert stage.engine.steps == 10
    assert all(sum(delta.compute_us for delta in stage.told[n]) > 0 for n in (1, 2))


def test_the_template_writes_the_conversation() -> None:
    stage = Stage()
    stage.ask(messages=[{"role": "system", "content": "be"}, {"role": "user", "content": "«me»"}])
    assert stage.run().text(1) == "me"
    assert stage.engine.added == ["[system]be[user]«me»"]


def test_slots_are_filled_in_turn_and_freed_within_one_step() -> None:
    stage = Stage(slots=2)
    first, _, _ = stage.ask("a" * 50), stage.ask("b" * 50), stage.ask("c")
    stage.run(steps=3)
    assert len(stage.engine.streams) == 2
    assert 3 not in stage.told
    stage.replica.drop(first)
    before = len(stage.told[1])
    stage.run(steps=1)
    assert stage.engine.cancelled == [first.number]
    assert (len(stage.told[1]), stage.text(3)) == (before, "c")


def test_a_dropped_stream_in_the_queue_is_never_computed() -> None:
    stage = Stage(slots=1)
    stage.ask("a" * 5)
    stage.replica.drop(stage.ask("never"))
    assert stage.run().engine.added == ["aaaaa"]


def test_a_stream_that_is_held_waits_for_a_word_and_not_in_the_way_of_others() -> None:
    stage = Stage(slots=1)
    held = stage.ask("first", held=True, max_tokens=3)
    assert (len(held.prompt), held.reach - len(held.prompt)) == (5, 3)
    stage.ask("second")
    assert stage.run().engine.added == ["second"]
    assert stage.replica.held == {held}
    stage.replica.proceed(held)
    assert stage.run().text(1) == "fir"
    dropped = stage.ask("third", held=True)
    stage.replica.drop(dropped)
    stage.replica.proceed(dropped)
    assert stage.run().engine.added == ["second", "first"]
    assert not stage.replica.held


def test_streams_that_are_held_are_bounded_as_the_queue_is() -> None:
    stage = Stage(ReplicaLimits(max_queue=3))
    for _ in range(3):
        stage.ask("held", held=True)
    with pytest.raises(Overloaded):
        stage.ask("one more", held=True)
    stage.ask("free")
    assert stage.run().text(5) == "free"


def test_a_tenant_with_long_prompts_cannot_starve_short_ones() -> None:
    stage = Stage(slots=1)
    for _ in range(4):
        stage.ask("l" * 90, tenant="long", max_tokens=5)
    for _ in range(4):
        stage.ask("short", tenant="short", max_tokens=5)
    stage.run()
    assert [text[:1] for text in stage.engine.added][:6] == ["l", "s", "s", "s", "s", "l"]


def test_long_prompts_in_free_slots_do_not_keep_a_short_one_waiting() -> None:
    stage = Stage(slots=16, context=4000, reads=250)
    for _ in range(12):
        stage.ask("«" + "word " * 600 + "»", tenant="long", max_tokens=200)
    stage.run(steps=5)
    stage.ask("«hi»", tenant="short")
    while 13 not in stage.told:
        stage.run(steps=1)
    assert len(stage.told) <= 3  # the prompt that was being read is the one it waited for
    stage.run()
    assert all(len(stage.told[number]) == 200 for number in range(1, 13))


def test_short_prompts_are_read_side_by_side() -> None:
    stage = Stage(slots=16, context=4000, reads=250)
    for _ in range(12):
        stage.ask("«" + "word " * 16 + "»")
    stage.run(steps=1)
    assert len(stage.engine.streams) == 12


def test_the_cache_is_never_promised_twice() -> None:
    stage = Stage(slots=4, context=100)
    stage.engine.profile = stage.replica.profile = type(stage.engine.profile)(100, 4, 150)
    for _ in range(3):
        stage.ask("x" * 50, max_tokens=20)
    stage.run(steps=1)
    assert len(stage.engine.streams) == 2
    assert len(stage.run().told) == 3


def test_a_stop_ends_the_stream_and_the_computation() -> None:
    stage = Stage()
    stage.ask("one, two, three", stop=("two",))
    assert stage.run().text(1) == "one, "
    assert stage.told[1][-1].finish == "stop"
    assert sum(delta.tokens for delta in stage.told[1]) == len("one, two") == stage.engine.computed


def test_logprobs_go_with_their_text() -> None:
    stage = Stage()
    stage.ask("ab", logprobs=1)
    assert [[each.text for each in delta.chosen] for delta in stage.run().told[1]] == [[b"a"], [b"b"]]


def test_failures_hit_the_streams_they_belong_to() -> None:
    stage = Stage()
    stage.ask("«ab!c»"), stage.ask("«abcdef»")
    stage.run()
    assert isinstance(stage.failed[1], EngineFailed)
    assert (stage.text(1), stage.text(2)) == ("ab", "abcdef")
    stage.ask("«ab#»"), stage.ask("«abcdef»")
    stage.run()
    assert set(stage.failed) == {1, 3, 4}
    assert stage.engine.streams == {}
    stage.ask("again")
    assert stage.run().text(5) == "again"


def test_what_the_engine_refuses_fails_alone() -> None:
    stage = Stage()
    stage.ask("a", top_p=0.5), stage.ask("b")
    stage.run()
    assert isinstance(stage.failed[1], InvalidParameter)
    assert stage.text(2) == "b"


def test_what_cannot_be_done_is_refused_at_once() -> None:
    stage = Stage()
    for error, asked in (
        (PromptTooLong, {"text": "x" * 200}),
        (ConversationRefused, {"text": ""}),
        (ConversationRefused, {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}]}),
        (InvalidParameter, {"logprobs": 2}),
        (InvalidParameter, {"constraint": Constraint("regex", "a")}),
        (DeadlineExceeded, {"seconds": -1}),
    ):
        with pytest.raises(error):
            stage.ask(**asked)
    assert not stage.replica.busy
    with pytest.raises(ConversationRefused):
        Stage(template="").ask(messages=[{"role": "user", "content": "x"}])


def test_the_queue_is_bounded_and_shared() -> None:
    stage = Stage(slots=1, limits=ReplicaLimits(max_queue=3))
    for _ in range(3):
        stage.ask("greedy", tenant="greedy")
    with pytest.raises(Overloaded) as refused:
        stage.ask("greedy", tenant="greedy")
    assert refused.value.retry_after_seconds is not None
    stage.ask("modest", tenant="modest")
    stage.run()
    assert isinstance(stage.failed[3], Overloaded)
    assert stage.text(5) == "modest"


def test_deadlines_hold_in_the_queue_and_in_the_slot() -> None:
    stage = Stage(slots=1)
    running = stage.ask("x" * 100)
    stage.run(steps=2)
    late = stage.ask("late")
    object.__setattr__(late, "order", order("late", seconds=-1))
    object.__setattr__(running, "order", order("x", seconds=-1))
    stage.run()
    assert {type(error) for error in stage.failed.values()} == {DeadlineExceeded}
    assert (set(stage.failed), stage.engine.added) == ({1, 2}, ["x" * 100])


def test_an_order_that_could_not_be_in_time_is_refused() -> None:
    stage = Stage(slots=1, context=1_000_000)
    stage.ask("x" * 90)
    stage.run(steps=5)  # its pace is known now: far below a million tokens in a moment
    for _ in range(20):
        stage.ask("x" * 500_000, seconds=10**6)
    with pytest.raises(Overloaded) as refused:
        stage.ask("y", seconds=1)
    assert (refused.value.retry_after_seconds or 0) >= 1


def test_closing_closes_the_engine() -> None:
    stage = Stage()
    stage.replica.close()
    assert stage.engine.closed


class Counted:
    """A tally in memory."""

    def __init__(self) -> None:
        self.sums: dict[str, Counter[str]] = {}

    def add(self, key: str, quantities: Mapping[str, int]) -> None:
        self.sums.setdefault(key, Counter()).update(quantities)

    def close(self) -> None:
        pass


def test_what_is_told_is_counted_and_a_prompt_once_for_all_its_choices() -> None:
    counted = Counted()
    stage = Stage(tally=counted)
    for part in range(4):  # one request: two choices of each of two prompts
        stage.ask("hello", "acme", part=part, choices=2)
    stage.ask("a" * 9, "zoo")
    stage.run()
    own = [delta for number in range(1, 5) for delta in stage.told[number]]
    acme = counted.sums["acme"]
    assert (acme["requests"], acme["input_tokens"]) == (1, 10)
    assert acme["output_tokens"] == sum(delta.tokens for delta in own) == 20
    assert acme["compute_us"] == sum(delta.compute_us for delta in own)
    assert (counted.sums["zoo"]["requests"], counted.sums["zoo"]["input_tokens"]) == (1, 9)


def test_a_stream_that_nobody_heard_of_is_not_counted() -> None:
    counted = Counted()
    stage = Stage(tally=counted)
    stage.replica.drop(stage.ask("hello"))
    stage.run()
    assert counted.sums == {}
