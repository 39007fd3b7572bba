"""A Progress that remembers, and can refuse to go on."""

from __future__ import annotations


class Watched:
    """Remembers what was told; ``refuse_at`` (a stage) or ``refuse_message`` (its beginning) make it stop."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.refuse_at = ""
        self.messages: list[str] = []
        self.refuse_message = ""
        self.refuse_with: Exception = RuntimeError("not set")

    def report(self, stage: str, fraction: float, message: str = "", **data: float | int | str) -> None:
        """Remember the stage."""
        assert 0 <= fraction <= 1
        self.messages.append(message)
        if stage == self.refuse_at or (self.refuse_message and message.startswith(self.refuse_message)):
            raise self.refuse_with
        if stage not in self.stages:
            self.stages.append(stage)
