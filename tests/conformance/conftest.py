"""Fixtures of the conformance suites."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from placement_stage import Stage


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[[str], Stage]]:
    """Make stages for a placement by its name; all are taken down after the test."""
    stages: list[Stage] = []

    def make(placement: str) -> Stage:
        folder = tmp_path / f"stage{len(stages)}"
        folder.mkdir()
        stages.append(Stage(folder, placement))
        return stages[-1]

    yield make
    for stage in stages:
        stage.close()
