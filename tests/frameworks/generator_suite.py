"""What every generative engine does, whatever computes it. A test class of an engine inherits from :class:`Suite`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from mofang.base.domain.errors import MofangError, PromptTooLong
from mofang.base.domain.generation import Delta, Sampling
from mofang.base.engines.base import GenerativeEngine

PROMPT = "The capital of France is"
GREEDY = Sampling(max_tokens=8, temperature=0.0)


def run(engine: GenerativeEngine, *numbers: int) -> tuple[dict[int, list[Delta]], dict[int, MofangError]]:
    """Step until the streams of these ``numbers`` have ended; return what was said, and what failed."""
    told: dict[int, list[Delta]] = {}
    failed: dict[int, MofangError] = {}
    open_ones = set(numbers)
    until = time.monotonic() + 100
    while open_ones:
        assert time.monotonic() < until, f"these did not end: {open_ones}"
        deltas, failures = engine.step()
        failed |= failures
        for delta in deltas:
            told.setdefault(delta.stream, []).append(delta)
        open_ones -= {delta.stream for delta in deltas if delta.finish} | set(failures)
    return told, failed


def text(deltas: Sequence[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


class Suite:
    """The suite; ``engine`` is a fixture of the module that inherits."""

    def test_it_says_what_it_was_trained_to(self, engine: GenerativeEngine) -> None:
        engine.add(1, engine.encode(PROMPT), GREEDY)
        told, _ = run(engine, 1)
        assert text(told[1]).startswith(" Paris")
        assert (sum(delta.tokens for delta in told[1]), told[1][-1].finish) == (8, "length")
        assert [delta.finish for delta in told[1][:-1]] == [""] * (len(told[1]) - 1)

    def test_streams_side_by_side_say_what_they_say_alone(self, engine: GenerativeEngine) -> None:
        prompts = [PROMPT, "One, two, three,", "Water is made of hydrogen and"]
        alone = []
        for number, prompt in enumerate(prompts, 10):
            engine.add(number, engine.encode(prompt), GREEDY)
            alone.append(text(run(engine, number)[0][number]))
        for number, prompt in enumerate(prompts, 20):
            engine.add(number, engine.encode(prompt), GREEDY)
        told, _ = run(engine, 20, 21, 22)
        assert sum(text(told[20 + index])[:8] == alone[index][:8] for index in range(3)) >= 2  # sums round differently

    def test_characters_come_whole(self, engine: GenerativeEngine) -> None:
        engine.add(
            30, engine.encode("Repeat: 漢字 é 😀 漢字 é 😀 漢字 é 😀 漢字"), Sampling(max_tokens=24, temperature=0.0)
        )
        told, _ = run(engine, 30)
        assert "�" not in text(told[30][:-1])

    def test_a_cancelled_stream_says_nothing_more(self, engine: GenerativeEngine) -> None:
        engine.add(40, engine.encode("Once upon a time"), Sampling(max_tokens=400, temperature=0.0))
        while not engine.step()[0]:
            pass
        engine.add(41, engine.encode(PROMPT), GREEDY)
        engine.cancel(40)
        told, failed = run(engine, 41)
        assert set(told) <= {41}
        assert failed == {}
        engine.cancel(40)  # again, and of what never was, is nothing
        engine.cancel(12345)

    def test_it_stops_by_itself(self, engine: GenerativeEngine) -> None:
        conversation = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
        engine.add(50, engine.encode(conversation), Sampling(max_tokens=100, temperature=0.0))
        told, _ = run(engine, 50)
        assert told[50][-1].finish == "stop"
        assert "Paris" in text(told[50])
        assert "<|im_end|>" not in text(told[50])

    def test_a_seed_says_the_same_again(self, engine: GenerativeEngine) -> None:
        said = []
        for number in (60, 61, 62):
            seed = 7 if number < 62 else 8
            engine.add(number, engine.encode("Once"), Sampling(max_tokens=12, temperature=1.5, seed=seed))
            said.append(text(run(engine, number)[0][number]))
        assert said[0] == said[1] != said[2]

    def test_logprobs_are_told_of_every_token(self, engine: GenerativeEngine) -> None:
        engine.add(70, engine.encode(PROMPT), Sampling(max_tokens=4, temperature=0.0, logprobs=0))
        told, _ = run(engine, 70)
        chosen = [each for delta in told[70] for each in delta.chosen]
        assert [each.text for each in chosen][:1] == [b" Paris"]
        assert len(chosen) == 4
        assert all(each.logprob <= 0 for each in chosen)

    def test_the_context_is_known_and_kept(self, engine: GenerativeEngine) -> None:
        assert engine.profile.context_tokens == 256
        with pytest.raises(PromptTooLong):
            engine.encode("word " * 2000)
        with pytest.raises(PromptTooLong):
            engine.encode("word " * 2_000_000)
        prompt = engine.encode("word " * 200)
        engine.add(80, prompt, Sampling(temperature=0.0))
        told, _ = run(engine, 80)
        assert sum(delta.tokens for delta in told[80]) <= 256 - len(prompt)
