"""Vowpal Wabbit's regressors, kept for its own engine: they hash text as no ONNX operator does."""

from __future__ import annotations

from pathlib import Path

import vowpalwabbit

from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.base.domain.work import Progress
from mofang.make.convert.attempt import write_signature
from mofang.make.convert.bench import Made, Wishes

_SIGNATURE = Signature((TensorSpec("examples", "BYTES", (-1,)),), (TensorSpec("value", "FP32", (-1,)),))
_WHY = "Vowpal Wabbit hashes the text of examples, which no ONNX operator does"


def open_file(path: Path, target: Path, wishes: Wishes, progress: Progress) -> Made:
    """Open what ``-f`` wrote. Raises InvalidModel if it is damaged, or answers more than one number."""
    try:
        workspace = vowpalwabbit.Workspace(arg_list=["--quiet", "--testonly", "-i", str(path)])
    except RuntimeError as error:
        raise InvalidModel(
            f"Vowpal Wabbit {vowpalwabbit.__version__} cannot read the model: {str(error).splitlines()[0][:200]}",
            hint="save it again, by the same version or an earlier one",
        ) from error
    answer = workspace.predict("| a:1")
    workspace.finish()
    if not isinstance(answer, (int, float)):
        raise InvalidModel(
            f"the model answers a {type(answer).__name__}, and one number can be served", hint="push a scalar regressor"
        )
    (target / "model.vw").write_bytes(path.read_bytes())
    write_signature(_SIGNATURE, target)
    return Made("vowpalwabbit", why_native=_WHY, packages=("vowpalwabbit",))
