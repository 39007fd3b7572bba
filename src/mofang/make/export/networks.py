"""Networks of Keras: as Keras saved them, and as the SavedModel that TensorFlow makes of them in its toolchain."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from mofang.base.domain.errors import ExportFailed
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.make.export.source import Source, Written

_PUSHED: Mapping[str, str] = MappingProxyType({"keras": "model.keras", "keras.h5": "model.h5"})
_SAVE = """
import os, sys
os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
import keras
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
model.export(sys.argv[2], format="tf_saved_model", verbose=False)
"""


def keras(source: Source, folder: Path) -> Written:
    """Write a network of Keras as it was trained, or as it was pushed."""
    if source.framework == "keras":
        (folder / "model.keras").write_bytes(source.network)
        return Written("keras", _signature(source), ("keras", "torch"), prepared=True)
    if source.was in _PUSHED and source.pushed is not None:
        (file,) = (path for path in source.pushed.rglob("*") if path.is_file())
        shutil.copyfile(file, folder / _PUSHED[source.was])
        return Written("keras", source.version.artifact.signature, ("keras", "torch"), runs=False)
    raise source.refuse("keras", "it was made by no Keras")


def tensorflow(source: Source, folder: Path) -> Written:
    """Write a network of Keras that was trained here as a SavedModel. Raises ToolchainMissing or ExportFailed."""
    if source.framework != "keras":
        came = "; it came as one: `--to original` gives that" if source.was == "savedmodel" else ""
        raise source.refuse("tensorflow", f"it is no network of Keras that was trained here{came}")
    python, saved = source.toolchains.python("tensorflow"), folder.parent / "network.keras"
    saved.write_bytes(source.network)
    command = [str(python), "-W", "ignore", "-c", _SAVE, str(saved), str(folder / "model")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ExportFailed(f"TensorFlow cannot save the network: {last[:300]}")
    return Written("tensorflow", _signature(source), ("tensorflow-cpu",), prepared=True, python=python)


def _signature(source: Source) -> Signature:
    features = source.test.schema.features if source.test else -1
    given = (TensorSpec("features", "FP32", (-1, features)),)
    return Signature(given, source.version.artifact.signature.outputs)
