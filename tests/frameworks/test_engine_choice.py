"""A pushed GGUF file is measured with both engines, and what was found stays with the version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models import SMOLLM2, fetch
from mofang.base.domain.registry import Speed
from mofang.make.convert.trial import STREAMS, measure
from servers import Server


@pytest.mark.parametrize("engine", ["openvino", "llamacpp"])
def test_an_engine_is_measured_in_a_process_of_its_own(tmp_path: Path, engine: str) -> None:
    (tmp_path / "model.gguf").symlink_to(fetch(SMOLLM2))
    found = measure(engine, tmp_path)
    assert isinstance(found, Speed), found
    assert found.streams == STREAMS
    assert min(found.one, found.several) > 0


@pytest.mark.timeout(300)
def test_what_was_chosen_stays_with_the_version(server: Server, mofang: Any) -> None:
    pushed = json.loads(mofang("push", "chosen", str(fetch(SMOLLM2)), "--json"))
    choice = pushed["choice"]
    assert choice["engine"] == pushed["engine"]
    assert choice["speeds"].keys() == {"openvino", "llamacpp"} or "not measured" in choice["why"]
    version = server.client.register.get_version("chosen@1")
    assert version.lineage.choice is not None
    assert version.lineage.choice.why == choice["why"]
    assert choice["why"] in " ".join(mofang("versions", "show", "chosen@1").split())
    byhand = json.loads(mofang("push", "by-hand", str(fetch(SMOLLM2)), "--engine", "llamacpp", "--json"))
    assert (byhand["engine"], byhand["choice"]) == ("llamacpp", None)
