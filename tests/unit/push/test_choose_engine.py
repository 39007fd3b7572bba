"""Which engine is taken for a GGUF file: by what was measured, and, where nothing could be, by what each can read."""

import os
from pathlib import Path

import pytest

from ggufs import gguf
from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.registry import Speed
from mofang.make.convert import trial
from mofang.make.convert.gguf import choose_engine

USUAL = "it reads the file"
BROKEN = "its process ended with status -11"


def speed(several: float) -> Speed:
    return Speed(10.0, several, trial.STREAMS)


@pytest.mark.parametrize(
    ("first", "second", "taken", "words"),
    [
        (speed(90), speed(30), "openvino", "3.0 times llamacpp"),
        (speed(30), speed(90), "llamacpp", "3.0 times openvino"),
        (speed(100), speed(105), "openvino", "1.0 times llamacpp"),  # that may be chance
        (BROKEN, speed(30), "llamacpp", f"openvino was not measured: {BROKEN}"),
        (speed(30), BROKEN, "openvino", f"llamacpp was not measured: {BROKEN}"),
        (BROKEN, BROKEN, "openvino", USUAL),
    ],
)
def test_the_clearly_faster_one_is_taken_of_those_that_can(
    first: Speed | str, second: Speed | str, taken: str, words: str
) -> None:
    choice = trial.choose("openvino", USUAL, {"openvino": first, "llamacpp": second})
    assert choice.engine == taken
    assert words in choice.why
    assert choice.speeds.keys() == {n for n, s in (("openvino", first), ("llamacpp", second)) if isinstance(s, Speed)}


def test_a_measurement_that_fails_is_a_reason_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf())  # whole, and of no network that any engine computes
    assert all(isinstance(trial.measure(engine, tmp_path), str) for engine in ("openvino", "llamacpp"))
    assert "no engine is called 'none'" in str(trial.measure("none", tmp_path))
    choice = choose_engine(tmp_path)
    assert (choice.engine, choice.speeds) == ("openvino", {})
    assert "not measured" in choice.why


def test_a_busy_machine_is_a_reason_to_take_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf())
    monkeypatch.setattr(os, "getloadavg", lambda: (100.0 * (os.cpu_count() or 1), 0.0, 0.0))
    monkeypatch.setattr(trial, "measure", lambda *_: pytest.fail("those who share the machine come first"))
    choice = choose_engine(tmp_path)
    assert (choice.engine, choice.speeds) == ("openvino", {})
    assert choice.why.endswith("not measured, since the machine is busy")


def test_where_one_engine_alone_can_nothing_is_measured(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf().replace(b"llama", b"rwkv7"))
    choice = choose_engine(tmp_path)
    assert (choice.engine, choice.speeds) == ("llamacpp", {})
    assert "'rwkv7'" in choice.why


def test_a_damaged_file_is_refused_before_any_engine_sees_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf()[:80])
    with pytest.raises(InvalidModel):
        choose_engine(tmp_path)
