"""Jobs: long work with progress, a lease and a result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JOB_ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work as the database knows it. ``spec``, ``result`` and ``error`` are plain JSON objects."""

    id: str
    kind: str
    spec: dict[str, Any]
    state: JobState
    actor: str  # key id of who asked
    attempt: int
    created_at: int
    started_at: int = 0
    ended_at: int = 0
    progress: float = 0.0  # 0..1
    stage: str = ""  # what it is doing, for people
    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)  # code, message, hint
    cancel_requested: bool = False


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One line of a job's story: a stage, a point of a curve, a message."""

    seq: int
    at: int
    stage: str
    message: str
    progress: float
    data: dict[str, Any] = field(default_factory=dict)


class Progress(Protocol):
    """How a stage tells how far it is; handed to every long function of ``make``."""

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Record a point (``fraction`` of this stage, 0..1); raise JobCancelled if someone asked to stop."""
        ...


class Silent:
    """A Progress that nobody watches."""

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Do nothing."""
