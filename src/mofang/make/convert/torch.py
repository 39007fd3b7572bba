"""PyTorch modules to ONNX. Called by the pipeline; ``parity.py`` proves that engines answer as ``reference`` does."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mofang.base.domain.errors import ConversionFailed
from mofang.base.domain.tensors import Array, Signature, TensorSpec
from mofang.make.convert.graph import labels_signature, regression_signature, sort_opsets
from mofang.make.train.torch.network import Answers, Net
from mofang.make.train.torch.train import answers

OPSET = 20
_EXAMPLE_ROWS = 2  # the exporter takes one row for a constant


def to_onnx(net: Net, folder: Path) -> Signature:
    """Write ``folder/model.onnx`` and return its signature. The same weights give the same bytes.

    Input ``features`` FP32 [n, d], missing values NaN; outputs ``label`` INT64 [n] and ``probabilities`` FP32
    [n, classes], of several labels ``labels`` INT64 [n, classes] in place of the first, or ``value`` FP32 [n]. Raises
    ConversionFailed if a layer has no ONNX form.
    """
    features, classes = net.plan.features, net.plan.classes
    signature = regression_signature(features)
    if net.plan.several:
        signature = labels_signature(features, classes)
    elif classes:
        outputs = (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, classes)))
        signature = Signature(signature.inputs, outputs)
    example = {"features": torch.zeros(_EXAMPLE_ROWS, features)}
    folder.mkdir(parents=True, exist_ok=True)
    export(Answers(copy.deepcopy(net)), example, [spec.name for spec in signature.outputs], folder / "model.onnx")
    return signature


def reference(net: Net, features: NDArray[np.float32]) -> dict[str, Array]:
    """Return what the network itself answers, by output."""
    found = answers(net.eval(), torch.from_numpy(features))
    if not net.plan.classes:
        return {"value": (found * net.target_deviation + net.target_mean).numpy()}
    if net.plan.several:
        return {"labels": (found > 0).long().numpy(), "probabilities": torch.sigmoid(found).numpy()}
    return {"label": found.argmax(dim=1).numpy(), "probabilities": torch.softmax(found, dim=1).numpy()}


def export(
    module: torch.nn.Module,
    example: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    path: Path,
    dynamic: Mapping[str, Mapping[int, Any]] | None = None,
) -> None:
    """Write ``module``, in evaluation mode, as ONNX to ``path``, in one file that has all weights.

    ``example`` gives each input by name, with at least two rows; ``dynamic`` names the open axes of each, which are the
    first ones if it is left out. Raises ConversionFailed.
    """
    module = module.to("cpu", memory_format=torch.contiguous_format).eval()
    rows = torch.export.Dim("n", min=1)
    shapes = dynamic or {name: {0: rows} for name in example}
    try:
        with quiet():
            program = torch.onnx.export(
                module, (), kwargs=dict(example), dynamo=True, opset_version=OPSET, verbose=False,
                input_names=[*example], output_names=[*outputs], dynamic_shapes=shapes, external_data=False,
            )  # fmt: skip
            assert program is not None
            model = program.model_proto
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConversionFailed(f"the module cannot be exported to ONNX: {first}", hint="") from error
    forget_how(model)
    sort_opsets(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def forget_how(model: Any) -> None:
    """Remove what the exporter notes of itself: stack traces, with paths of this machine."""
    del model.metadata_props[:]
    model.graph.ClearField("doc_string")
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        del part.metadata_props[:]
        part.ClearField("doc_string")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter from talking: it writes its progress to standard output, and warns of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
