"""Which engine computes a language model faster on this machine: a short measurement, when it is pushed.

It is made then, and not when it is loaded, so that who deploys waits for the first token no longer than the engine
needs, and because an engine is part of what a version's digest covers. Each engine is tried in a process of its own,
the first that the kernel ends where memory is short; one that crashes, hangs or cannot load is a reason, never an
error. This module is that process's program, too.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from mofang.base.domain.errors import MofangError
from mofang.base.domain.generation import Sampling
from mofang.base.domain.registry import Choice, Speed
from mofang.base.engines.base import Conversational, GenerativeEngine
from mofang.base.engines.catalog import load_generator

STREAMS = 4  # side by side; engines have as many slots or more
_TOKENS = 24  # of each answer
_MOST_SECONDS = 5.0  # that either measurement may take
_BUSY = 2.0  # processes that want to compute, for each core: more, and what is measured is chance
_PATIENCE_SECONDS = 60.0  # for an engine to load and be measured
_WORTH = 1.1  # how much faster another engine must be: less may be chance
_MEMORY_PER_BYTE = 4  # of the file, while an engine reads it; with what it keeps besides
_CACHE_MB = 256
_TEXT = "{number}. The river rises in the hills, turns east below the mill, and after forty miles it comes to the sea. "


def compare(path: Path, engines: Sequence[str], usual: str) -> Choice:
    """Measure ``engines`` on the GGUF file ``path``, and return the choice; the first is the one that is taken unless
    another is clearly faster. ``usual`` says why it is the first."""
    if why := _unfit(path.stat().st_size):
        return Choice(engines[0], f"{usual}; not measured, since {why}", machine())
    found = {engine: measure(engine, path.parent) for engine in engines}
    return choose(engines[0], usual, found)


def choose(first: str, usual: str, found: Mapping[str, Speed | str]) -> Choice:
    """Decide, of what was measured, or why it could not be. Pure.

    What counts is how much several streams say: one alone is faster than people read with either.
    """
    speeds = {engine: speed for engine, speed in found.items() if isinstance(speed, Speed)}
    failed = "; ".join(f"{engine} was not measured: {why}" for engine, why in found.items() if isinstance(why, str))
    if not speeds:
        return Choice(first, f"{usual}; {failed}", machine())
    fastest = max(speeds, key=lambda engine: (speeds[engine].several, engine == first))
    if first not in speeds:
        return Choice(fastest, failed, machine(), speeds)
    if speeds[fastest].several < _WORTH * speeds[first].several:
        fastest = first
    others = [engine for engine in speeds if engine != fastest]
    times = [f"{speeds[fastest].several / max(speeds[other].several, 0.1):.1f} times {other}" for other in others]
    said = f"{STREAMS} streams say {' and '.join(times)}" if times else failed
    return Choice(fastest, f"{said}; {failed}" if times and failed else said, machine(), speeds)


def measure(engine: str, folder: Path, patience_seconds: float = _PATIENCE_SECONDS) -> Speed | str:
    """Return how fast ``engine`` is on the model in ``folder``, in a process of its own, or why that is not known."""
    with TemporaryDirectory() as room:
        told = Path(room, "told")
        command = [sys.executable, "-P", "-m", "mofang.make.convert.trial", engine, str(folder), str(told)]
        kept = {name: os.environ[name] for name in ("LANG", "LD_LIBRARY_PATH", "PATH") if name in os.environ}
        try:
            done = subprocess.run(
                command, env={**kept, "HOME": room, "TMPDIR": room}, cwd=room, timeout=patience_seconds,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it took over {patience_seconds:g} s"
        except OSError as error:
            return f"no process could be started for it: {error.strerror}"
        try:
            return msgspec.json.decode(told.read_bytes(), type=Speed | str)
        except (OSError, msgspec.MsgspecError):
            return f"its process ended with status {done.returncode}"


def machine() -> str:
    """Return what a measurement is true for."""
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def run(engine: GenerativeEngine) -> Speed:
    """Return how many tokens a second ``engine`` says, with one stream and with several. Raises EngineFailed."""
    _said(engine, [0], 2)  # what is made once
    return Speed(_said(engine, [1], _TOKENS), _said(engine, range(2, 2 + STREAMS), _TOKENS), STREAMS)


def _said(engine: GenerativeEngine, numbers: Sequence[int], tokens: int) -> float:
    """Return the tokens a second of streams of these ``numbers``, whose prompts begin differently."""
    prompts = {number: engine.encode(_TEXT.format(number=number) * 2, opening=True) for number in numbers}
    began = time.perf_counter()
    for number, prompt in prompts.items():
        engine.add(number, prompt, Sampling(max_tokens=tokens, temperature=0.0))
    left, said, seconds = set(numbers), 0, 0.0
    while left and (seconds < _MOST_SECONDS or not said):
        deltas, failures = engine.step()
        if failures:
            raise next(iter(failures.values()))
        said += sum(delta.tokens for delta in deltas)
        left -= {delta.stream for delta in deltas if delta.finish}
        seconds = time.perf_counter() - began
    for number in left:
        engine.cancel(number)
    return round(said / max(seconds, 1e-6), 1)


def _unfit(size_bytes: int) -> str:
    """Say why nothing can be measured here now, if so: those who share the machine come first."""
    if os.getloadavg()[0] > _BUSY * len(os.sched_getaffinity(0)):
        return "the machine is busy"
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return ""
    room = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 1 << 62)
    return "memory is short" if room < _MEMORY_PER_BYTE * size_bytes + (_CACHE_MB << 20) else ""


def main(name: str, folder: str, told: str) -> None:
    """Measure one engine and write what was found."""
    found: Speed | str
    with contextlib.suppress(OSError):  # not every system has it
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        engine = load_generator(name, Path(folder), {"cache_mb": _CACHE_MB})
        found = "it is elsewhere" if isinstance(engine, Conversational) else run(engine)
    except MofangError as error:
        found = error.message[:300]
    Path(told).write_bytes(msgspec.json.encode(found))
    sys.stdout.flush()
    os._exit(0)  # libraries' threads are not waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
