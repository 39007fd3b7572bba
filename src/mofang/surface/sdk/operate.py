"""The server itself: what runs, since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mofang.base.domain.errors import MofangError
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server's tree."""

    name: str
    state: str
    pid: int = 0
    restarts: int = 0
    started_at: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The server at a glance."""

    version: str
    started_at: int
    counts: Mapping[str, int] = field(default_factory=dict)  # models, endpoints, jobs in flight ...
    processes: list[Process] = field(default_factory=list)


class Operate:
    """``client.operate``."""

    def __init__(self, wire: Transport) -> None:
        self._wire = wire

    def status(self) -> Status:
        """Return version, counts and processes."""
        return self._wire.get("/status", Status)

    def is_ready(self) -> bool:
        """Tell whether the server answers inference; needs no key and raises nothing."""
        try:
            return self._wire.send("GET", "/v2/health/ready", timeout_seconds=5.0).is_success
        except MofangError:
            return False

    def openapi(self) -> dict[str, Any]:
        """Return the description of the control API."""
        return self._wire.get("/openapi.json", dict[str, Any])
