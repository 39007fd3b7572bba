"""A pushed network, of which nobody knows more than its file and a sample, teaches a student that takes its place."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from watched import Watched

import graphs
from mofang.base.domain.errors import NoVariant
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import ModelVersion
from mofang.make.pipeline import JOB_KINDS, push_files
from mofang.make.workshop import Workshop

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = (6, 192, 192, 3)


def network(*end: str) -> bytes:
    """Layers whose weights no technique on files finds, [n, 6] ``my.in`` to [n, 3] ``linear``; after them ``end``."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "my.in"
    for number, (given, asked) in enumerate(pairwise(WIDTHS)):
        drawn = random.normal(0, (2 / given) ** 0.5, (given, asked)).astype(np.float32)
        weights.append(numpy_helper.from_array(drawn, f"w{number}"))
        nodes.append(helper.make_node("Einsum", [value, f"w{number}"], [f"sum{number}"], equation="nd,dk->nk"))
        nodes.append(helper.make_node("Relu", [f"sum{number}"], [f"relu{number}"]))
        value = f"relu{number}"
    nodes[-1] = helper.make_node(*(end or ("Identity",)), ["sum2"], ["linear"])
    ends = [graphs.value("my.in", ("n", 6))], [graphs.value("linear", ("n", 3))]
    return graphs.model(nodes, *ends, weights).SerializeToString()


def pushed(tools: Workshop, content: bytes) -> None:
    ref = tools.blobs.put([content])
    entry = {"path": "model.onnx", "sha256": ref.sha256, "size_bytes": ref.size_bytes}
    push_files({"model": "box", "engine": "onnx", "files": [entry]}, tools, Watched())


def compress(tools: Workshop, progress: Watched, rows: NDArray[Any], **more: Any) -> dict[str, Any]:
    file = io.BytesIO()
    np.savez(file, **{"my.in": rows})
    ref = tools.blobs.put([file.getvalue()])
    order = {"version": "box@1", "calibration": ref.sha256, "filename": "sample.npz", "seconds": 0.0, **more}
    result: dict[str, Any] = JOB_KINDS["compress"](order, tools, progress)
    return result


def sample(count: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


@pytest.mark.parametrize("end", [("Softmax",), ()], ids=["probabilities", "any numbers"])
def test_a_student_takes_the_place_of_a_pushed_network(
    tools: Workshop, progress: Watched, tmp_path: Path, end: tuple[str, ...]
) -> None:
    pushed(tools, network(*end))
    result = compress(tools, progress, sample(2048), max_drop=0.1, max_size_mb=0.05, objective="size")
    print([(each["told"], each["refusal"], each["comparison"] and each["comparison"]["quality"]) for each in result["variants"]])
    (picked,) = [each for each in result["variants"] if each["is_picked"]]
    assert picked["told"].startswith("student dense")
