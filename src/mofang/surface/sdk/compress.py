"""Compression: make a smaller variant of a version and see what it costs in quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.transport import Transport


@dataclass(frozen=True, slots=True)
class Variant:
    """A compressed form of a version: how it was made, both measured, and why it was refused if it was."""

    id: str
    model: str
    parent: str  # digest of the version it was made from
    technique: str
    digest: str
    dataset: str  # digest of what quality was measured on
    comparison: Mapping[str, Any]
    accepted: bool
    refusal: str
    version: int  # its number in the registry; 0 if refused
    created_at: int


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
