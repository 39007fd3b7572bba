"""What runs on a stand: loads one engine, and times it when asked. ``stand.py`` starts it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

from mofang.base.domain.generation import Sampling
from mofang.base.engines.base import Engine, GenerativeEngine
from mofang.base.engines.catalog import generator_names, load_engine, load_generator
from mofang.make.compress.stand import Ask, Load, Ready, Rows, Speak, Spoken, Times, decoder, receive, send, unpack

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Load what the first message names, then answer one question after the other until the pipe ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a framework prints does not get in between
    first = receive(asked, decoder(Load))
    if first is None:
        return 0
    if first.engine in generator_names():
        speaker: Any = load_generator(first.engine, Path(first.folder), first.options)
        send(answers, Ready(_resident_bytes()))
        _serve_prompts(speaker, asked, answers)
        return 0
    engine = load_engine(first.engine, Path(first.folder), first.options)
    send(answers, Ready(_resident_bytes()))
    _serve_rows(engine, asked, answers)
    return 0


def _serve_rows(engine: Engine, asked: IO[bytes], answers: IO[bytes]) -> None:
    inputs: dict[int, Rows] = {}
    messages = decoder(Ask)
    while (message := receive(asked, messages)) is not None:
        if message.rows:
            inputs[message.number] = {name: unpack(packed) for name, packed in message.rows.items()}
        rows, taken = inputs[message.number], []
        for _ in range(message.times):
            begun = time.perf_counter_ns()
            engine.infer(rows)
            taken.append(time.perf_counter_ns() - begun)
        send(answers, Times(taken, _resident_bytes()))


def _serve_prompts(engine: GenerativeEngine, asked: IO[bytes], answers: IO[bytes]) -> None:
    messages, first = decoder(Speak), 0
    while (message := receive(asked, messages)) is not None:
        send(answers, _spoken(engine, first, message))
        first += len(message.prompts)  # an engine may have a last word on streams that have ended


def _spoken(engine: GenerativeEngine, number: int, message: Speak) -> Spoken:
    """Go on from the prompts of ``message`` side by side, until all have ended."""
    sampling = Sampling(max_tokens=message.tokens, temperature=0.0)
    begun, first, tokens = time.perf_counter_ns(), 0, 0
    left = set(range(number, number + len(message.prompts)))
    for stream, prompt in zip(sorted(left), message.prompts, strict=True):
        engine.add(stream, prompt, sampling)
    while left:
        deltas, failures = engine.step()
        for failure in failures.values():
            raise failure
        for delta in deltas:
            tokens += delta.tokens
            if delta.finish:
                left.discard(delta.stream)
        if tokens and not first:
            first = time.perf_counter_ns() - begun
    return Spoken(first, time.perf_counter_ns() - begun, tokens, _resident_bytes())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
