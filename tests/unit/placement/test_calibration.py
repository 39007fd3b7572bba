"""Threads found by measuring: of a model that takes its time, and of one that answers in a moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from nets import scaled

from mofang.base.domain.errors import EngineLoadFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.base.engines.base import Engine, Options
from mofang.base.engines.catalog import load_engine
from mofang.base.placement.calibration import Calibrator, is_calibrated

SPEC = TensorSpec("x", "FP32", (-1, 1))
FOLDER = Path()


class Slow:
    """Takes as long as it is told, by its threads."""

    signature = Signature((SPEC,), (SPEC,))

    def __init__(self, threads: int, seconds: Mapping[int, float]) -> None:
        self.threads = threads
        self.closed = False
        self._seconds = seconds[threads]

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        time.sleep(self._seconds)
        return {"x": np.asarray(inputs["x"])}

    def close(self) -> None:
        self.closed = True


class Loads:
    """Loads what takes these seconds, and remembers what it loaded."""

    def __init__(self, seconds: Mapping[int, float]) -> None:
        self.made: list[Slow] = []
        self._seconds = seconds

    def __call__(self, engine: str, folder: Path, options: Options) -> Engine:
        self.made.append(Slow(int(options["threads"]), self._seconds))
        return self.made[-1]


@pytest.mark.parametrize(("seconds", "threads"), [({1: 0.05, 4: 0.01}, 4), ({1: 0.03, 4: 0.03}, 1)])
def test_all_cores_compute_where_that_pays_and_what_is_not_taken_is_closed(
    seconds: Mapping[int, float], threads: int
) -> None:
    loads = Loads(seconds)
    calibrator = Calibrator(loads, 4)
    taken = calibrator("any", FOLDER, {})
    assert [(each.threads, each.closed) for each in loads.made] == [(1, threads != 1), (4, threads != 4)]
    assert isinstance(taken, Slow)
    assert not taken.closed
    assert calibrator.found is not None
    assert calibrator.found.threads == threads
    assert calibrator.found.row_us >= seconds[threads] * 1e6


def test_what_takes_too_long_to_load_again_is_left_as_it_is() -> None:
    loads = Loads({1: 0.2, 4: 0.01})
    calibrator = Calibrator(loads, 4)
    calibrator("any", FOLDER, {})
    assert [each.threads for each in loads.made] == [1]
    assert calibrator.found is not None
    assert calibrator.found.threads == 1


def test_a_model_that_answers_in_a_moment_is_loaded_once(tmp_path: Path) -> None:
    scaled(tmp_path, 2.0)
    loaded: list[Options] = []

    def load(engine: str, folder: Path, options: Options) -> Engine:
        loaded.append(options)
        return load_engine(engine, folder, options)

    calibrator = Calibrator(load, 4)
    calibrator("onnx", tmp_path, {}).close()
    assert loaded == [{"threads": 1}]
    assert calibrator.found is not None
    assert calibrator.found.threads == 1


def test_a_model_that_cannot_be_loaded_is_refused_as_ever(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadFailed):
        Calibrator(load_engine, 4)("onnx", tmp_path, {})


def test_what_was_set_is_not_measured() -> None:
    assert is_calibrated("onnx", {})
    assert not is_calibrated("onnx", {"threads": 2})
    assert not is_calibrated("xgboost", {})
    assert not is_calibrated("llamacpp", {})
    assert not is_calibrated("whisper", {})
    assert is_calibrated("encoder", {})
