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


@pytest.fixture
def smollm2(tmp_path: Path) -> Path:
    """A folder with the model."""
    (tmp_path / "model.gguf").symlink_to(fetch(SMOLLM2))
    return tmp_path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["openvino", "llamacpp"])
def test_an_engine_is_measured_in_a_process_of_its_own(smollm2: Path, engine: str) -> None:
    found = measure(engine, smollm2, patience_seconds=280)  # however busy the machine is
    assert isinstance(found, Speed), found
    assert found.streams == STREAMS
    assert min(found.one, found.several) > 0


def test_an_engine_that_is_too_slow_to_be_measured_is_a_reason(smollm2: Path) -> None:
    assert measure("llamacpp", smollm2, patience_seconds=0.05) == "it took over 0.05 s"


@pytest.mark.timeout(300)
def test_what_was_chosen_stays_with_the_version(server: Server, mofang: Any) -> None:
    pushed = json.loads(mofang("push", "chosen", str(fetch(SMOLLM2)), "--json"))
    choice = pushed["choice"]
    assert choice["engine"] == pushed["engine"]
    if choice["speeds"].keys() != {
        "openvino",
        "llamacpp",
    }:  # no time or room: in words
        left_out = {"openvino", "llamacpp"} - choice["speeds"].keys()
        unfit = any(why in choice["why"] for why in ("the machine is busy", "memory is short"))
        slow = all(f"{engine} was not measured: it took over 60 s" in choice["why"] for engine in left_out)
        assert unfit or slow, choice
        assert choice["engine"] == ("openvino" if len(left_out) != 1 else next(iter(choice["speeds"])))
    version = server.client.register.get_version("chosen@1")
    assert version.lineage.choice is not None
    assert version.lineage.choice.why == choice["why"]
    for shown in (("versions", "show", "chosen@1"), ("models", "show", "chosen")):
        assert f"{choice['engine']}: {choice['why']}" in " ".join(mofang(*shown).split())
    again = server.client.jobs.wait(server.client.register.push("chosen", [fetch(SMOLLM2)]).id)
    if choice["speeds"]:
        assert again.result["choice"]["speeds"] == choice["speeds"]
        assert again.result["created"] is False
    byhand = json.loads(mofang("push", "by-hand", str(fetch(SMOLLM2)), "--engine", "llamacpp", "--json"))
    assert (byhand["engine"], byhand["choice"]) == ("llamacpp", None)


def test_an_endpoint_says_why_its_engine_computes_it(smol: Server, mofang: Any) -> None:
    choice = smol.client.register.get_version("smol").lineage.choice
    assert choice is not None
    assert f"{choice.engine}: {choice.why}" in " ".join(mofang("endpoints", "show", "smol").split())
