"""A run of ONNX Runtime can be given up from another thread; the next is not touched by it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from graphs import looping, save
from mofang.base.domain.errors import EngineFailed
from mofang.base.engines.base import Interruptible
from mofang.base.engines.catalog import load_engine

ROW = np.ones((1, 4), np.float32)


def test_a_run_is_given_up_and_the_next_computes(tmp_path: Path) -> None:
    engine = load_engine("onnx", save(looping(), tmp_path))
    assert isinstance(engine, Interruptible)
    engine.interrupt()  # nothing runs: nothing happens
    timer = threading.Timer(0.2, engine.interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(EngineFailed, match="terminate"):
        engine.infer({"x": ROW, "steps": np.array([10_000_000])})  # minutes
    assert time.monotonic() - began < 5
    timer.join()
    assert np.array_equal(engine.infer({"x": ROW, "steps": np.array([3])})["y"], ROW)
    engine.close()
