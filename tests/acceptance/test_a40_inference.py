"""A40, of inference over REST: whatever its description allows is asked, and much that it does not; nothing ends in a
5xx, nor in a status or a content that is not described. Many more questions are asked in ``tests/prove``.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from everything import ask_batches, ask_inference, everything
from schemathesis import GenerationMode

from servers import Server


@pytest.fixture(scope="module")
def asked_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with everything(tmp_path_factory.mktemp("everything")) as server:
        yield server


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_nothing_that_is_asked_of_a_model_ends_in_a_5xx(asked_all: Server, mode: GenerationMode) -> None:
    asked = ask_inference(asked_all, mode, examples=4)
    assert len({operation for operation, _ in asked}) > 30
    assert httpx.get(f"{asked_all.url}/v2/health/ready").status_code == 200


@pytest.mark.parametrize("mode", GenerationMode)
def test_a40_nothing_that_is_asked_of_files_and_batches_ends_in_a_5xx(asked_all: Server, mode: GenerationMode) -> None:
    asked = ask_batches(asked_all, mode, examples=20)
    assert len({operation for operation, _ in asked}) >= 7
    if mode is GenerationMode.POSITIVE:
        assert asked["POST /v1/files", 200]
