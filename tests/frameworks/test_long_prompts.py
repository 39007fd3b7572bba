"""Long prompts of one tenant, in slots that were free, do not keep the short one of another waiting: real engines."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from models import SMOLLM2, fetch
from mofang.base.domain.deployment import ReplicaLimits
from mofang.base.domain.generation import Delta, Order, Sampling
from mofang.base.engines.catalog import load_generator
from mofang.base.placement.streams import StreamReplica

LONG = 7
OPTIONS = {"context": 1024, "slots": 8, "cache_mb": 1024}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["openvino", "llamacpp"])
def test_a_short_prompt_waits_for_one_long_one_at_most(tmp_path: Path, engine: str) -> None:
    (tmp_path / "model.gguf").symlink_to(fetch(SMOLLM2))
    replica = StreamReplica(load_generator(engine, tmp_path, OPTIONS), ReplicaLimits())
    assert replica.profile.slots > LONG
    until = time.monotonic() + 500
    begun: list[int] = []  # in the order in which they said their first word

    def ask(number: int, tenant: str, text: str) -> None:
        sampling = Sampling(max_tokens=60, temperature=0.0)
        replica.submit(None, number, Order(f"r{number}", tenant, until, sampling, text))

    def step_until(number: int | None) -> None:
        """Go on until a stream, or any, has said something."""
        while number not in begun if number is not None else not begun:
            assert time.monotonic() < until, begun
            for stream, event in replica.step():
                assert isinstance(event, Delta), event
                begun.extend([stream.id] if event.tokens and stream.id not in begun else [])

    for number in range(LONG):
        ask(number, "long", f"{number}. " + "The river flows to the sea and on. " * 100)
    step_until(None)
    ask(99, "short", "The capital of France is")
    step_until(99)
    others = len(begun) - 1
    replica.close()
    assert others <= 3, begun  # the first, the one that was being read, and one whose turn it was
