"""What makes integers lose less: equal channels, corrected means, layers in float that stay so; and fewer bytes."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import graphs
from mofang.base.domain.errors import NoVariant
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import make
from mofang.make.compress.onnx.channels import largest_of, means_of
from mofang.make.compress.onnx.compact import compact
from mofang.make.compress.onnx.equalise import corrected, equalised
from mofang.make.compress.onnx.graph import folded
from mofang.make.compress.onnx.sensitive import worst_first
from mofang.make.compress.step import Int8
from mofang.make.compress.subject import Means, Subject

_ROWS = np.random.default_rng(1).uniform(0, 1, (64, 2, 6, 6)).astype(np.float32)


def _net(loud: float = 200.0) -> onnx.ModelProto:
    """Convolutions, the second depthwise, two of them cut at six; some channels are ``loud`` times others."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(1 / loud, 1, 16).astype(np.float32)[:, None, None, None]
    shapes = ((16, 2, 3, 3), (16, 1, 3, 3), (4, 16, 1, 1), (4, 4, 1, 1))
    first, middle, last, end = (rng.standard_normal(shape) for shape in shapes)
    constants = {
        "lowest": 0.0, "highest": 6.0, "first": first * sizes, "middle": np.abs(middle),
        "last": last / sizes.reshape(1, -1, 1, 1), "end": end, "first_bias": 0.1 * sizes.ravel(),
        "middle_bias": np.zeros(16), "last_bias": np.zeros(4), "end_bias": np.zeros(4),
    }  # fmt: skip
    nodes = []
    layers = (("features", "first"), ("first_cut", "middle"), ("middle_cut", "last"), ("last_sum", "end"))
    for given, layer in layers:
        pads, groups = [int(layer in ("first", "middle"))] * 4, 16 if layer == "middle" else 1
        answer = "scores" if layer == "end" else f"{layer}_sum"
        nodes.append(
            helper.make_node("Conv", [given, layer, f"{layer}_bias"], [answer], layer, group=groups, pads=pads)
        )
        if layer in ("first", "middle"):
            nodes.append(helper.make_node("Clip", [answer, "lowest", "highest"], [f"{layer}_cut"]))
    initialisers = [numpy_helper.from_array(np.asarray(each, np.float32), name) for name, each in constants.items()]
    inputs, outputs = [graphs.value("features", ("n", 2, 6, 6))], [graphs.value("scores", ("n", 4, 6, 6))]
    return graphs.model(nodes, inputs, outputs, initialisers)


def _means(folder: Path) -> Means:
    return Means(Subject(folder), lambda: Path(mkdtemp(dir=folder)), calibration={"features": _ROWS})


def _answers(model: onnx.ModelProto, *, as_written: bool = False) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"features": _ROWS})[0]


def _lost(exact: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(np.square(exact - found).sum() / np.square(exact).sum())


def _made(folder: Path, step: Int8) -> onnx.ModelProto:
    made = make((step,), _means(folder)).folder
    assert made is not None
    return onnx.load(made / "model.onnx")


def test_equal_channels_compute_the_same_and_lose_less_in_integers(tmp_path: Path) -> None:
    folder = graphs.save(_net(), tmp_path / "source")
    means, exact = _means(folder), _answers(_net())
    model = folded(means.original, means)
    made = equalised(model, means)
    np.testing.assert_allclose(_answers(made), exact, rtol=1e-3, atol=1e-4)
    spread = [np.ptp(np.log(largest_of(each, {"first_cut"}, means)["first_cut"])) for each in (model, made)]
    assert spread[1] < spread[0] - 2  # e² times as equal
    plain, better = (_lost(exact, _answers(_made(folder, Int8(equalised=each)))) for each in (False, True))
    assert better < plain / 2


def test_a_graph_whose_channels_nobody_may_change_is_refused(tmp_path: Path) -> None:
    model = _net()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(-1), "lowest"))  # cuts that move with scale
    with pytest.raises(NoVariant, match="no channels to make equally large"):
        make((Int8(equalised=True),), _means(graphs.save(model, tmp_path)))


def test_what_rounded_weights_shift_is_taken_from_the_bias(tmp_path: Path) -> None:
    means = _means(graphs.save(_net(1), tmp_path))
    model = folded(means.original, means)
    made = corrected(model, {"middle"}, means)
    bias = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}["middle_bias"]
    weight = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}["middle"]
    scale = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    wrong = (np.rint(weight / scale) * scale - weight).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(bias, -wrong * means_of(model, {"first_cut"}, means)["first_cut"], rtol=1e-4, atol=1e-7)
    assert np.abs(bias).max() > 0


def test_layers_in_float_stay_so_when_the_engine_loads_them(tmp_path: Path) -> None:
    model = _net(1)
    for each in model.graph.initializer:  # weights that nothing is left of beside others, which read zeros
        values = numpy_helper.to_array(each).copy()
        if each.name in ("first", "first_bias"):
            values[0] = 0
        elif each.name == "last":
            values[:, 0] = 3000
        each.CopyFrom(numpy_helper.from_array(values, each.name))
    exact = _answers(model)
    made = _made(graphs.save(model, tmp_path / "source"), Int8(in_float=1))
    assert [[*each.dims] for each in made.graph.initializer if each.data_type == 1 and len(each.dims) == 4] == [
        [4, 16, 1, 1]
    ]
    served = load_engine("onnx", graphs.save(made, tmp_path / "made")).infer({"features": _ROWS})["scores"]
    assert _lost(exact, _answers(made, as_written=True)) < 0.001
    assert _lost(exact, served) < 0.001


def test_compact_graphs_answer_the_same_in_fewer_bytes() -> None:
    long = _net()
    for number, node in enumerate(long.graph.node):
        node.name = f"of/what/somebody/exported/{number}"
    long.graph.value_info.append(graphs.value("first_sum", ("n", 16, 6, 6)))
    long.graph.initializer.append(helper.make_tensor("numbers", 6, [64], [-1] * 64))  # ten bytes each
    long.graph.node.append(helper.make_node("Cast", ["numbers"], ["unread"], to=1))
    before, size = _answers(long), long.ByteSize()
    made = compact(long)
    assert made.ByteSize() < size - 500
    assert [each.name for each in (*made.graph.input, *made.graph.output)] == ["features", "scores"]
    np.testing.assert_array_equal(_answers(made), before)


def test_the_layers_that_lose_most_are_found_by_halves() -> None:
    losses = {f"layer{number}": 1e-6 * number for number in range(256)} | {"layer77": 5.0, "layer200": 3.0}
    asked: list[Sequence[str]] = []

    def loss(those: Sequence[str]) -> float:
        asked.append(those)
        return sum(losses[each] for each in those)

    found = worst_first([*losses], loss)
    assert [next(found), next(found)] == ["layer77", "layer200"]
    assert len(asked) < 40
    assert len([*found]) == 254
