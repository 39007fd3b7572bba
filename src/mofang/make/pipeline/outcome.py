"""What all kinds of jobs tell at the end: which version came of it, and what code made it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from typing import Any

from mofang.base.domain.registry import ModelVersion

Spec = Mapping[str, Any]
Result = dict[str, Any]


def told(version: ModelVersion, created: bool) -> Result:
    """Return what a job's result says of the version it registered."""
    return {"model": version.model, "version": version.number, "digest": version.digest, "created": created}


def code(*packages: str) -> str:
    """Name what made a version: Mofang and those of ``packages`` that are installed, with their versions."""
    there = {package: version for package in ("mofang", *packages) if (version := _installed(package))}
    return ", ".join(f"{package} {version}" for package, version in there.items())


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return ""
