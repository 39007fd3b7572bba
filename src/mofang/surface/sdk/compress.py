"""Compression: search for smaller and faster variants of a version, and see what each costs in quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mofang.base.domain.registry import ModelVersion
from mofang.base.domain.work import Job
from mofang.surface.sdk.jobs import Jobs, Submitted
from mofang.surface.sdk.pages import walk
from mofang.surface.sdk.register import Register
from mofang.surface.sdk.transport import Transport, segment

Objective = Literal["balance", "latency", "size", "cost"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A candidate of a search: how it was made, measured beside its version, and why it was refused if it was.

    ``comparison`` has quality, sizes, resident memory and latencies of both; None if the candidate could not be made.
    """

    id: str
    model: str
    parent: str  # digest of the version it was made from
    technique: str  # its name among the variants of its version
    digest: str
    dataset: str  # digest of what quality was measured on
    comparison: Mapping[str, Any] | None
    accepted: bool
    refusal: str
    version: int  # number of the version it is registered with; 0 if refused
    created_at: int
    job: str = ""
    steps: str = ""  # JSON: how to make it again
    told: str = ""  # the same in one line
    is_front: bool = False
    is_picked: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)  # how the pick runs best where the server is


@dataclass(frozen=True, slots=True)
class Variants:
    """The variants of a version that are registered, and the candidates of its newest search, as they were tried."""

    version: str
    registered: list[ModelVersion]
    candidates: list[Variant]


class Compress:
    """``client.compress``."""

    def __init__(self, wire: Transport, jobs: Jobs, register: Register) -> None:
        self._wire = wire
        self._jobs = jobs
        self._register = register

    def run(
        self,
        version: str,
        *,
        max_drop: float | None = 0.005,
        max_latency_ms: float | None = None,
        max_size_mb: float | None = None,
        objective: Objective = "balance",
        seconds: float = 600.0,
        trials: int = 0,
        dataset: str = "",
        calibration: Path | str | None = None,
        metric: Literal["auto", "agreement", "cosine"] = "auto",
        teacher: str = "",
    ) -> Job:
        """Search for variants of ``MODEL@VERSION`` that lose ``max_drop`` of quality at most; return the job.

        ``objective`` is what is to become small: the time of one row (``latency``), the ``size``, the time of a row in
        a batch (``cost``), or all in ``balance``; of a language model a token takes the place of a row, and what is
        lost is the share by which perplexity rises. The search ends after ``seconds`` or ``trials`` (0: no limit).
        ``calibration`` is a file of what a pushed model is asked, .npy, .npz, or texts; ``metric`` how answers are
        compared where nobody knows the truth. Networks learn from ``teacher`` instead of the version:
        ``MODEL@VERSION``, ``endpoint:NAME``, or ``upstream:SERVER/MODEL``. The job's result is
        ``{"version", "picked", "variants"}``; it fails with NoVariant if nothing is good enough.
        """
        upload = self._register.upload(Path(calibration)).sha256 if calibration else ""
        body = {
            "version": version,
            "max_drop": max_drop,
            "max_latency_ms": max_latency_ms,
            "max_size_mb": max_size_mb,
            "objective": objective,
            "seconds": seconds,
            "trials": trials,
            "dataset": dataset,
            "calibration": upload,
            "filename": Path(calibration).name if calibration else "",
            "metric": metric,
            "teacher": teacher,
        }
        return self._jobs.get(self._wire.call("POST", "/variants", Submitted, body).job)

    def tune(self, version: str, *, latency_ms: float = 50.0, seconds: float = 10.0) -> Job:
        """Find by measuring how to run ``MODEL@VERSION`` where the server is; return the job, whose result tells.

        ``latency_ms``: how long a request may wait for its answer when all instances are busy.
        """
        body = {"version": version, "latency_ms": latency_ms, "seconds": seconds}
        return self._jobs.get(self._wire.call("POST", "/tunings", Submitted, body).job)

    def variants(self, version: str) -> Variants:
        """Return the variants that ``MODEL[@VERSION]`` has, and what the newest search for them found."""
        return self._wire.get(_path(version), Variants)

    def report_html(self, version: str) -> str:
        """Return what the newest search on ``MODEL[@VERSION]`` found as a page to look at."""
        return self._wire.text(f"{_path(version)}/report.html")

    def list_variants(self, version: str | None = None, *, limit: int | None = 100) -> list[Variant]:
        """Return the newest candidates of all searches first, of one ``MODEL@VERSION`` if given."""
        return [*walk(self._wire, "/variants", Variant, {"version": version}, limit=limit)]


def _path(version: str) -> str:
    model, _, selector = version.partition("@")
    return f"/models/{segment(model)}/versions/{segment(selector or 'newest')}/variants"
