"""A40, the long form: forty questions of each sort to every operation there is, and no answer of 5xx."""

from __future__ import annotations

from pathlib import Path

import pytest
from everything import ask_batches, ask_inference, everything
from schemathesis import GenerationMode

from fuzzing import ask_control
from servers import Server


@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_no_question_ends_in_a_5xx(tmp_path: Path, mode: GenerationMode) -> None:
    server = Server(tmp_path / "data")
    try:
        asked = ask_control(server, mode, examples=40)
        assert asked.total() > 1000
    finally:
        server.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_no_question_to_a_model_ends_in_a_5xx(tmp_path: Path, mode: GenerationMode) -> None:
    with everything(tmp_path) as server:
        asked = ask_inference(server, mode, examples=40)
        asked += ask_batches(server, mode, examples=40)
    assert asked.total() > 800
    if mode is GenerationMode.POSITIVE:
        answered = {operation for operation, status in asked if status == 200}
        computing = {operation for operation, status in asked if operation.startswith("POST") and status == 400}
        assert len(computing & answered) >= 8  # or nothing but refusals was looked at
