"""A model whose rows say what it shall do, and that writes down which rows it computed; for tests of placements."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mofang.base.domain.errors import EngineLoadFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec

BLOCK = 7.0  # second column: wait until the test releases one
FAIL = 13.0  # second column: raise
FIRST = 100.0  # first column: rows below are the warm-up's


class ScriptedEngine:
    """``y = 2 x`` for ``x: [n, 2]``; reads ``gate`` (a FIFO) and appends to ``computed`` in its folder."""

    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))

    def __init__(self, folder: Path) -> None:
        if (folder / "broken").exists():
            raise EngineLoadFailed("this model is broken")
        self._gate = os.open(folder / "gate", os.O_RDWR)
        self._computed = (folder / "computed").open("ab", buffering=0)
        self._is_poor = (folder / "nan").exists()

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        x = np.asarray(inputs["x"], dtype=np.float32)
        if (x[:, 1] == FAIL).any():
            raise ValueError("a row asked to fail")
        self._computed.write(b"".join(b"%d\n" % row for row in x[:, 0]))
        for _ in range(int((x[:, 1] == BLOCK).sum())):
            os.read(self._gate, 1)
        return {"y": x * np.float32(np.nan if self._is_poor else 2)}

    def close(self) -> None:
        os.close(self._gate)
        self._computed.close()
