"""On what a run was made: the machine and every package, so that a difference between two runs can be explained."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Return what this process runs on: ``machine`` (plain facts) and ``packages`` (name to version, sorted)."""
    packages = {str(each.metadata["Name"]).lower(): each.version for each in distributions()}
    return {"machine": machine(), "packages": dict(sorted(packages.items()))}


def machine() -> dict[str, Any]:
    """Return system, Python, processor, cores that may be used, and memory in bytes."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
