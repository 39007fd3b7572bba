"""A model for each label, of whichever library, as one ONNX graph that answers all of them.

Called through the catalog with what ``make/train/labels.py`` leaves: a tuple of models that know two classes each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mofang.base.domain.tensors import Array, Signature
from mofang.make.convert.graph import Reference, ToOnnx, label_answers, labels_signature, name_labels, sort_opsets


def each_label(to_onnx: ToOnnx, reference: Reference) -> tuple[ToOnnx, Reference]:
    """Return the two for models, and for tuples of models of a label each.

    Those take ``features`` FP32 [n, d], and answer ``labels`` INT64 and ``probabilities`` FP32, both [n, labels].
    """

    def write(found: Any, folder: Path) -> Signature:
        return _write_all(found, to_onnx, folder) if isinstance(found, tuple) else to_onnx(found, folder)

    def ask(found: Any, features: NDArray[np.float32]) -> dict[str, Array]:
        if not isinstance(found, tuple):
            return reference(found, features)
        of_each = [np.asarray(reference(model, features)["probabilities"], np.float32)[:, 1] for model in found]
        return label_answers(np.stack(of_each, axis=1))

    return write, ask


def _write_all(models: Sequence[Any], to_onnx: ToOnnx, folder: Path) -> Signature:
    whole: Any = None
    for place, model in enumerate(models):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            features = to_onnx(model, Path(scratch)).inputs[0].shape[1]
            one = onnx.load(Path(scratch) / "model.onnx")
        _number(one.graph, place)
        if whole is None:
            whole = one
        else:
            whole.graph.node.extend(one.graph.node)
            whole.graph.initializer.extend(one.graph.initializer)
            whole.opset_import.extend(one.opset_import)
    graph = whole.graph
    del graph.output[:]
    kept = [f"{place}/kept" for place in range(len(models))]
    graph.node.append(onnx.helper.make_node("Concat", kept, ["probabilities"], name="all labels", axis=1))
    graph.output.append(onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", len(models)]))
    name_labels(graph, len(models))
    sort_opsets(whole)
    (folder / "model.onnx").write_bytes(whole.SerializeToString(deterministic=True))
    return labels_signature(features, len(models))


def _number(graph: Any, place: int) -> None:
    """Put ``place`` before every name but the input's, and keep the probability of the second class alone."""
    onnx.compose.add_prefix_graph(graph, f"{place}/", rename_inputs=False, inplace=True)
    del graph.value_info[:]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), f"{place}/second"))
    chosen = [f"{place}/probabilities", f"{place}/second"]
    graph.node.append(onnx.helper.make_node("Gather", chosen, [f"{place}/kept"], name=f"{place}/keep", axis=1))
