"""Compression: make a smaller variant of a version and see what it costs in quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class Variant:
    """A compressed version beside the one it was made from, both measured."""

    id: str
    parent: str  # model@number
    version: str  # model@number
    method: str
    created_at: int
    measured: Mapping[str, Any] = field(default_factory=dict)


class Compress:
    """``client.compress``."""

    def __init__(self, wire: Transport, jobs: Jobs) -> None:
        self._wire = wire
        self._jobs = jobs

    def run(self, version: str, *, max_drop: float = 0.005) -> Job:
        """Compress ``MODEL@VERSION``, losing ``max_drop`` of accuracy at most; return the job.

        The job's result is ``{"variant"}``; it fails with NoVariant if nothing smaller is good enough.
        """
        body = {"version": version, "max_drop": max_drop}
        return self._jobs.get(self._wire.call("POST", "/variants", Submitted, body).job)

    def list_variants(self, version: str | None = None, *, limit: int | None = 100) -> list[Variant]:
        """Return the newest variants first, of one ``MODEL@VERSION`` if given."""
        return [*walk(self._wire, "/variants", Variant, {"version": version}, limit=limit)]
