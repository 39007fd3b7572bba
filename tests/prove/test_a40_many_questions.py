"""A40, the long form: forty questions of each sort to every operation of the control API, and no answer of 5xx."""

from __future__ import annotations

from pathlib import Path

import pytest
from schemathesis import GenerationMode

from fuzzing import ask_everything
from servers import Server


@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_no_question_ends_in_a_5xx(tmp_path: Path, mode: GenerationMode) -> None:
    server = Server(tmp_path / "data")
    try:
        asked = ask_everything(server, mode, examples=40)
        assert asked.total() > 1000
    finally:
        server.close()
