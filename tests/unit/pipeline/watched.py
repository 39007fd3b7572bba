"""A Progress that remembers, and can refuse to go on."""

from __future__ import annotations


class Watched:
    """Remembers what was reported; ``refuse_at`` makes it stop there, as a cancelled job's does."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.refuse_at = ""
        self.refuse_with: Exception = RuntimeError("not set")

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Remember the stage."""
        assert 0 <= fraction <= 1
        if stage == self.refuse_at:
            raise self.refuse_with
        if stage not in self.stages:
            self.stages.append(stage)
