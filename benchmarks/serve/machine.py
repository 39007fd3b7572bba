"""What the measuring stands on: which core runs what, how fast it is right now, and who else uses it."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def speed(core: int, seconds: float = 0.03) -> float:
    """Return loops a second of fixed work on ``core``: these machines change their speed within seconds."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        best = 0.0
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            for _ in range(20_000):
                pass
            best = max(best, 20_000 / (time.perf_counter() - began))
        return best
    finally:
        os.sched_setaffinity(0, own)


def busy_seconds(core: int) -> float:
    """Return the seconds ``core`` was busy since the machine started, for whomever."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, steal, *_ = map(int, fields)
            return (user + nice + system + irq + softirq + steal) / _TICKS
    raise ValueError(f"there is no core {core}")


def tree(root: int) -> list[int]:
    """Return the process ids of ``root`` and its living descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(pid)
    return found


def tree_seconds(root: int) -> float:
    """Return the processor seconds that ``root`` and its living descendants have used."""
    total = 0.0
    for pid in tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def tree_megabytes(root: int) -> float:
    """Return the memory of ``root`` and its living descendants, what they share counted once (PSS)."""
    total = 0
    for pid in tree(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    return total / 1024


def describe() -> str:
    """Return a line about the machine and one about the versions."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    packages = ("numpy", "onnxruntime", "msgspec", "uvloop", "httptools", "uvicorn")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}\nPython {platform.python_version()}, {versions}"
