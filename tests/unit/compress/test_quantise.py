from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import graphs
from mofang.base.domain.errors import NoVariant
from mofang.base.engines.catalog import load_engine
from mofang.make.compress.catalog import make
from mofang.make.compress.step import Calibration, Half, Int4, Int8, Optimise, Prune, Step
from mofang.make.compress.subject import Means, Subject


def _made(source: Path, *steps: Step, rows: np.ndarray | None = None) -> Path:
    """Take steps from the graph in ``source`` on, with ``rows`` of its input ``features`` to calibrate on."""
    calibration = {} if rows is None else {"features": rows}
    folder = make(steps, Means(Subject(source), lambda: Path(mkdtemp(dir=source)), calibration=calibration)).folder
    assert folder is not None
    return folder


def _operators(folder: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(folder / "model.onnx").graph.node)


def _deep(width: int = 256) -> onnx.ModelProto:
    """A network that answers the largest of its 8 inputs, through two layers of ``width``, one of them a Gemm."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "up"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "middle"], ["turned"]),
        helper.make_node("MatMul", ["turned", "down"], ["scores"]),
    ]
    constants = {"up": turn[:8], "middle": turn, "down": (turn @ turn)[:8].T}
    return graphs.model(
        nodes,
        [graphs.value("features", ("n", 8))],
        [graphs.value("scores", ("n", 8))],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )


def test_dynamic_int8_is_smaller_and_answers_alike(tmp_path: Path) -> None:
    source = graphs.save(_deep(), tmp_path / "source")
    target = _made(source, Int8("dynamic"))
    assert (target / "model.onnx").stat().st_size < (source / "model.onnx").stat().st_size / 3
    assert _operators(target)["MatMulInteger"] == 3
    features = np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32)
    truth = features.argmax(axis=1)
    engines = [load_engine("onnx", folder) for folder in (source, target)]
    before, after = (
        (engine.infer({"features": features})["scores"].argmax(axis=1) == truth).mean() for engine in engines
    )
    assert before > 0.99
    assert after > 0.9
    assert [path.name for path in target.iterdir()] == ["model.onnx"]


def test_a_product_after_an_operator_of_another_set_is_quantised(tmp_path: Path) -> None:
    imputer = helper.make_node(
        "Imputer",
        ["features"],
        ["filled"],
        domain="ai.onnx.ml",
        imputed_value_floats=[0.0] * 8,
        replaced_value_float=-1.0,
    )
    nodes = [
        imputer,
        helper.make_node("MatMul", ["filled", "weights"], ["products"]),
        helper.make_node("Neg", ["products"], ["scores"]),
    ]
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    model = graphs.model(
        nodes,
        [graphs.value("features", ("n", 8))],
        [graphs.value("scores", ("n", 4))],
        [numpy_helper.from_array(weights, "weights")],
        domains=["ai.onnx.ml"],
    )
    source = graphs.save(model, tmp_path / "source")
    engine = load_engine("onnx", _made(source, Int8("dynamic")))
    rows = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    found = engine.infer({"features": rows})["scores"]
    engine.close()
    np.testing.assert_allclose(found, -rows @ weights, atol=0.2)


@pytest.mark.parametrize("dims", [("n", 2), (3, 2)])
def test_a_graph_without_products_has_nothing_to_quantise(tmp_path: Path, dims: tuple[int | str, int]) -> None:
    source = graphs.save(graphs.one_node("Relu", dims=dims), tmp_path)
    with pytest.raises(NoVariant, match=r"nothing to quantise.* only Relu"):
        _made(source, Int8("dynamic"))


def test_a_product_of_two_inputs_has_nothing_to_quantise(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    source = graphs.save(
        graphs.model([node], [graphs.value("x", (2, 2))], [graphs.value("y", (2, 2))]), tmp_path / "source"
    )
    with pytest.raises(NoVariant, match="nothing to quantise"):
        _made(source, Int8("dynamic"))


@pytest.mark.parametrize("calibration", ["minmax", "entropy", "percentile"])
def test_static_int8_is_a_graph_of_integers_that_answers_alike(tmp_path: Path, calibration: Calibration) -> None:
    source = graphs.save(_deep(64), tmp_path / "source")
    rows = np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)
    folder = _made(source, Int8("static", calibration), rows=rows)
    kinds = {each.data_type for each in onnx.load(folder / "model.onnx").graph.initializer if len(each.dims) == 2}
    assert kinds == {onnx.TensorProto.INT8}
    assert _operators(folder)["QuantizeLinear"] >= 3
    assert _runs(folder)["QGemm"] + _runs(folder)["QLinearMatMul"] + _runs(folder)["MatMulIntegerToFloat"] == 3
    engines = [load_engine("onnx", each) for each in (source, folder)]
    before, after = (engine.infer({"features": rows})["scores"].argmax(axis=1) for engine in engines)
    assert (before == after).mean() > 0.85


def test_the_layers_that_lose_most_stay_in_float(tmp_path: Path) -> None:
    model = _deep(64)
    rows = np.random.default_rng(1).standard_normal((200, 8)).astype(np.float32)
    for each in model.graph.initializer:  # one number so large that nothing is left of the others beside it
        if each.name == "middle":
            values = numpy_helper.to_array(each).copy()
            values[0] *= 300
            each.CopyFrom(numpy_helper.from_array(values, "middle"))
    source = graphs.save(model, tmp_path / "source")
    kept = onnx.load(_made(source, Int8(in_float=1), rows=rows) / "model.onnx")
    floats = [each.name for each in kept.graph.initializer if each.data_type == 1 and len(each.dims) == 2]
    assert len(floats) == 1
    with pytest.raises(NoVariant, match="all 3 layers would stay in float"):
        _made(source, Int8(in_float=3), rows=rows)


def test_static_int8_needs_rows_to_learn_ranges_from(tmp_path: Path) -> None:
    source = graphs.save(_deep(8), tmp_path / "source")
    with pytest.raises(NoVariant, match="learns the ranges of numbers from rows") as refused:
        _made(source, Int8())
    assert "--calibration" in refused.value.hint


@pytest.mark.parametrize("step", [Int8("dynamic"), Int4()])
def test_a_table_of_words_becomes_integers_too(tmp_path: Path, step: Step) -> None:
    random = np.random.default_rng(0)
    table, weights = (random.standard_normal(shape).astype(np.float32) for shape in ((2000, 64), (64, 32)))
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["looked"]),
        helper.make_node("MatMul", ["looked", "w"], ["y"]),
    ]
    model = graphs.model(
        nodes,
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", 3])],
        [graphs.value("y", ("n", 3, 32))],
        [numpy_helper.from_array(table, "words"), numpy_helper.from_array(weights, "w")],
    )
    source = graphs.save(model, tmp_path / "source")
    folder = _made(source, step)
    assert (folder / "model.onnx").stat().st_size < (source / "model.onnx").stat().st_size / 3.5
    ids = random.integers(0, 2000, (50, 3))
    engine = load_engine("onnx", folder)
    found = engine.infer({"ids": ids})["y"]
    engine.close()
    wanted = table[ids] @ weights
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def test_int4_keeps_weights_in_four_bits(tmp_path: Path) -> None:
    source = graphs.save(_deep(), tmp_path / "source")
    folder = _made(source, Int4(32))
    assert _operators(folder)["MatMulNBits"] == 3
    assert (folder / "model.onnx").stat().st_size < (source / "model.onnx").stat().st_size / 5
    _answers_alike(source, folder, 0.75)
    with pytest.raises(NoVariant, match="nothing to keep in 4 bits"):
        _made(graphs.save(graphs.one_node("Relu"), tmp_path / "relu"), Int4())


def test_fp16_keeps_weights_in_half_the_bytes_and_computes_in_floats(tmp_path: Path) -> None:
    source = graphs.save(_deep(), tmp_path / "source")
    folder = _made(source, Half())
    kinds = Counter(each.data_type for each in onnx.load(folder / "model.onnx").graph.initializer)
    assert kinds == {onnx.TensorProto.FLOAT16: 3}
    assert (folder / "model.onnx").stat().st_size < (source / "model.onnx").stat().st_size * 0.51
    assert _runs(folder)["Cast"] == 0
    _answers_alike(source, folder, 0.99)


def test_optimising_fuses_what_the_engine_would_fuse_at_every_load(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["products"]), helper.make_node("Add", ["products", "b"], ["y"])]
    weights = [numpy_helper.from_array(np.ones(shape, np.float32), name) for shape, name in (((2, 2), "w"), (2, "b"))]
    model = graphs.model(nodes, [graphs.value("x", ("n", 2))], [graphs.value("y", ("n", 2))], weights)
    folder = _made(graphs.save(model, tmp_path / "source"), Optimise())
    assert _operators(folder) == {"Gemm": 1}
    with pytest.raises(NoVariant, match="nothing to fold or to fuse"):
        _made(folder, Optimise())


def test_steps_follow_each_other(tmp_path: Path) -> None:
    source = graphs.save(_deep(), tmp_path / "source")
    folder = _made(source, Half(), Int4())
    assert _operators(folder)["MatMulNBits"] == 3
    with pytest.raises(NoVariant, match="'prune 50%'"):  # of a file nobody has the network any more
        _made(source, Int4(), Prune(0.5))


def _answers_alike(first: Path, second: Path, share: float) -> None:
    features = np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32)
    engines = [load_engine("onnx", folder) for folder in (first, second)]
    before, after = (engine.infer({"features": features})["scores"].argmax(axis=1) for engine in engines)
    assert (before == after).mean() >= share


def _runs(folder: Path) -> Counter[str]:
    """Count the operators that ONNX Runtime computes, after it has made kernels of integers of what is written."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "run.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "run.onnx").graph.node)
