import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import graphs
from models import MINILM_INT8, fetch
from mofang.base.domain.errors import InvalidModel
from mofang.base.domain.tensors import TensorSpec
from mofang.make.convert.onnx import inspect

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def _refused(folder: Path) -> str:
    with pytest.raises(InvalidModel) as caught:
        inspect(folder)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


# --- signatures ---------------------------------------------------------------------------------------------------


def test_a_real_encoder_has_its_three_inputs_and_open_dimensions(tmp_path: Path) -> None:
    shutil.copy(fetch(MINILM_INT8), tmp_path / "model.onnx")
    found = inspect(tmp_path)
    assert [str(spec) for spec in found.signature.inputs] == [
        "input_ids: [n, n] INT64",
        "attention_mask: [n, n] INT64",
        "token_type_ids: [n, n] INT64",
    ]
    assert [str(spec) for spec in found.signature.outputs] == ["last_hidden_state: [n, n, 384] FP32"]
    assert found.signature.batchable
    assert found.labels == ()


def test_an_initialiser_that_is_also_listed_as_input_is_no_input(tmp_path: Path) -> None:
    model = graphs.classifier(WEIGHTS)
    model.graph.input.append(graphs.value("weights", (4, 2)))
    signature = inspect(graphs.save(model, tmp_path)).signature
    assert signature.inputs == (TensorSpec("features", "FP32", (-1, 4)),)
    assert [spec.name for spec in signature.outputs] == ["label", "probabilities"]


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.UINT64, "UINT64"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_datatypes_are_named_as_in_the_protocol(tmp_path: Path, kind: int, datatype: str) -> None:
    model = graphs.one_node("Identity", kind=kind, dims=("batch", None, 3, 1))  # type: ignore[arg-type]
    (spec,) = inspect(graphs.save(model, tmp_path)).signature.inputs
    assert (spec.datatype, spec.shape) == (datatype, (-1, -1, 3, 1))


def test_a_scalar_is_a_shape_without_dimensions(tmp_path: Path) -> None:
    signature = inspect(graphs.save(graphs.one_node("Relu", dims=()), tmp_path)).signature
    assert signature.outputs[0].shape == ()


@pytest.mark.parametrize("labels", [["ant", "bee"], [3, 7]])
def test_labels_are_those_the_classifier_names(tmp_path: Path, labels: list[str] | list[int]) -> None:
    key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        coefficients=[1.0, 0.0, 0.0, 1.0],
        intercepts=[0.0, 0.0],
        **{key: labels},
    )
    kind = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    outputs = [graphs.value("label", ("n",), kind), graphs.value("scores", ("n", 2))]
    model = graphs.model([node], [graphs.value("x", ("n", 2))], outputs, domains=["ai.onnx.ml"])
    assert inspect(graphs.save(model, tmp_path)).labels == tuple(map(str, labels))


# --- what is no model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b'{"model": 1}', b"GGUF" + bytes(64), b"\x80\x04\x95."]
)
def test_other_files_are_not_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert _refused(tmp_path) == "the file is not an ONNX model"


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "no file 'model.onnx'" in _refused(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_model_cut_anywhere_is_refused(tmp_path: Path, share: float) -> None:
    whole = graphs.classifier(WEIGHTS).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(whole[: int(len(whole) * share)])
    _refused(tmp_path)


def test_a_cut_model_says_that_it_is_cut(tmp_path: Path) -> None:
    whole = graphs.classifier(WEIGHTS).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut short" in _refused(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graphs.one_node("Frobnicate"), "No Op registered for Frobnicate"),
        (graphs.one_node("Frobnicate", domain="com.example"), "com.example:Frobnicate(-1) is not a registered"),
        (graphs.one_node("Relu", opset=99), "it is of opset 99 of ai.onnx, the newest known is"),
        (graphs.one_node("Identity", kind=TensorProto.BFLOAT16), "input 'x' is tensor(bfloat16), which the inference"),
        (graphs.one_node("Relu", dims=None), "input 'x' does not say how many dimensions it has"),
    ],
    ids=["operator", "domain", "opset", "bfloat16", "rank"],
)
def test_what_cannot_be_served_is_said_in_one_sentence(tmp_path: Path, model: onnx.ModelProto, message: str) -> None:
    refusal = _refused(graphs.save(model, tmp_path))
    assert message in refusal
    assert str(tmp_path) not in refusal
    assert "onnxruntime_src" not in refusal


def test_a_zipmap_output_says_how_to_convert_without(tmp_path: Path) -> None:
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    output = helper.make_value_info(
        "y",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        ),
    )
    folder = graphs.save(
        graphs.model([node], [graphs.value("x", ("n", 2))], [output], domains=["ai.onnx.ml"]), tmp_path
    )
    with pytest.raises(InvalidModel, match="output 'y' is seq") as caught:
        inspect(folder)
    assert "{'zipmap': False}" in caught.value.hint


# --- external data ------------------------------------------------------------------------------------------------


def _external(location: str, **entries: str) -> onnx.ModelProto:
    """The classifier with its weights elsewhere."""
    model = graphs.classifier(WEIGHTS)
    (tensor,) = model.graph.initializer
    _move_out(tensor, location, **entries)
    return model


def _move_out(tensor: onnx.TensorProto, location: str, **entries: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)


def test_external_data_beside_the_model_are_fine(tmp_path: Path) -> None:
    for location, entries in (("w.bin", {}), ("parts/w.bin", {"offset": "16", "length": "32"})):
        path = tmp_path / location
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(16) + WEIGHTS.tobytes())
        assert inspect(graphs.save(_external(location, **entries), tmp_path)).signature.batchable


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file of the right size that no model may read, beside the folder of the model."""
    path = tmp_path / "secret.bin"
    path.write_bytes(WEIGHTS.tobytes())
    return path


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "parts/../../secret.bin",
        "./../secret.bin",
        "{absolute}",
        "/etc/passwd",
        "link.bin",
        "linked/secret.bin",
        "..\\secret.bin",
        "*/_ORT_MEM_ADDR_/*",
        "",
        ".",
    ],
)
def test_external_data_outside_the_folder_are_never_read(tmp_path: Path, outside: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "link.bin").symlink_to(outside)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "*/_ORT_MEM_ADDR_").mkdir(parents=True)
    (folder / "*/_ORT_MEM_ADDR_/*").write_bytes(outside.read_bytes())
    location = location.format(absolute=outside)
    assert f"is at {location!r}, outside the model's folder" in _refused(graphs.save(_external(location), folder))


def test_external_data_hidden_deep_in_the_model_are_found(tmp_path: Path, outside: Path) -> None:
    def hidden() -> onnx.TensorProto:
        tensor = numpy_helper.from_array(WEIGHTS, "hidden")
        _move_out(tensor, "../secret.bin")
        return tensor

    constant = helper.make_node("Constant", [], ["z"], value=hidden())
    branch = helper.make_graph([constant], "branch", [], [graphs.value("z", (4, 2))])
    condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    inside_if = graphs.model([choice], [graphs.value("x", (1,))], [graphs.value("y", (4, 2))], [condition])

    function = helper.make_function(
        "local", "F", ["x"], ["y"], [constant, helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 20)]
    )
    inside_function = graphs.one_node("F", domain="local")
    inside_function.functions.append(function)

    sparse = graphs.one_node("Relu")
    sparse.graph.sparse_initializer.add().values.CopyFrom(hidden())

    for model in (inside_if, inside_function, sparse):
        assert "'../secret.bin', outside" in _refused(graphs.save(model, tmp_path / "model"))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "cut short: 'w.bin' has 31 bytes, 32 are needed"),
        ({"offset": "8", "length": "24"}, "cut short: 'w.bin' has 31 bytes, 32 are needed"),
        ({"offset": "-1"}, "offset '-1', which is no number of bytes"),
        ({"length": "9" * 30}, "which is no number of bytes"),
        ({"offset": "x"}, "offset 'x'"),
    ],
)
def test_external_data_that_are_short_or_misplaced(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes()[:-1])
    assert message in _refused(graphs.save(_external("w.bin", **entries), tmp_path))


def test_external_data_that_say_two_things(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    model = _external("../secret.bin")
    model.graph.initializer[0].external_data.add(key="location", value="w.bin")
    assert "has an entry twice" in _refused(graphs.save(model, tmp_path))

    impossible = _external("w.bin")
    impossible.graph.initializer[0].dims[:] = [-4, -2]
    assert "impossible shape [-4, -2]" in _refused(graphs.save(impossible, tmp_path))


def test_external_data_that_are_missing(tmp_path: Path) -> None:
    assert "is missing: there is no file 'w.bin'" in _refused(graphs.save(_external("w.bin"), tmp_path))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_external_data_that_are_no_plain_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "w.bin")
    assert "is missing" in _refused(graphs.save(_external("w.bin"), tmp_path))
