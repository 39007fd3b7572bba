"""Computes Vowpal Wabbit models natively: they hash whatever text comes, which no ONNX operator does.

Loaded through the catalog, never imported by name. The artifact is ``model.vw`` and ``signature.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import vowpalwabbit

from mofang.base.domain.errors import EngineFailed, EngineLoadFailed, TensorData
from mofang.base.domain.tensors import Array
from mofang.base.engines.base import Options
from mofang.base.engines.native import read_signature, refuse_options


class VowpalWabbitEngine:
    """``folder/model.vw``: input ``examples`` BYTES [n], each a line in Vowpal Wabbit's text format without a label.

    Output ``value`` FP32 [n]; the model tells whether that is a prediction, a margin or a probability. No options.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        """Load the model. Raises EngineLoadFailed."""
        refuse_options("vowpalwabbit", options)
        self.signature = read_signature(folder)
        try:
            self._workspace = vowpalwabbit.Workspace(arg_list=["--quiet", "--testonly", "-i", str(folder / "model.vw")])
        except RuntimeError as error:
            raise EngineLoadFailed(f"Vowpal Wabbit cannot load the model: {str(error).splitlines()[0]}") from error

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs. Raises EngineFailed, or TensorData for an example that is not one line of text."""
        (examples,) = inputs.values()
        try:
            found = [self._workspace.predict(_line(example)) for example in examples.tolist()]
        except RuntimeError as error:
            raise EngineFailed(f"Vowpal Wabbit cannot compute the input: {str(error).splitlines()[0]}") from error
        return {"value": np.array(found, np.float32)}

    def close(self) -> None:
        """Let go of the model."""
        self._workspace.finish()


def _line(example: bytes) -> str:
    try:
        line = example.decode()
    except UnicodeDecodeError as error:
        raise TensorData("an example is not UTF-8") from error
    if "\n" in line or "|" not in line:
        raise TensorData(
            "an example is one line with a '|' before its features", hint="write e.g. `| age:31 city=oslo`"
        )
    return line
