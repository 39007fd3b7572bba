from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from watched import Watched

import graphs
from ggufs import LORA_KEYS, LORA_ROWS, gguf
from models import MINILM_INT8, fetch
from mofang.base.domain.errors import (
    BlobNotFound,
    EngineNotFound,
    InvalidModel,
    InvalidName,
    InvalidPath,
    UnknownFormat,
)
from mofang.base.domain.names import VersionRef
from mofang.base.domain.registry import Choice, ModelVersion, Speed
from mofang.base.domain.work import Progress
from mofang.make.convert import gguf as convert_gguf
from mofang.make.evaluate.card import model_card
from mofang.make.pipeline import push_files
from mofang.make.workshop import Workshop

WEIGHTS = np.arange(8, dtype=np.float32).reshape(4, 2)


def _spec(tools: Workshop, files: dict[str, bytes], model: str = "letters", engine: str = "onnx") -> dict[str, Any]:
    entries = []
    for path, content in files.items():
        ref = tools.blobs.put([content])
        entries.append({"path": path, "sha256": ref.sha256, "size_bytes": ref.size_bytes})
    return {"model": model, "engine": engine, "files": entries}


def _split() -> dict[str, bytes]:
    """A model whose weights are in a file beside it."""
    model = graphs.classifier(WEIGHTS)
    tensor = model.graph.initializer[0]
    tensor.CopyFrom(numpy_helper.from_array(WEIGHTS, "weights"))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return {"letters.onnx": model.SerializeToString(), "weights.bin": WEIGHTS.tobytes()}


def test_a_pushed_file_becomes_a_version(tools: Workshop, progress: Progress) -> None:
    spec = _spec(tools, {"My Model (2).onnx": graphs.classifier(WEIGHTS).SerializeToString()})
    result = push_files(spec, tools, progress)
    assert (result["model"], result["version"], result["created"]) == ("letters", 1, True)
    assert result["signature"]["inputs"] == ({"name": "features", "datatype": "FP32", "shape": (-1, 4)},)

    version = tools.registry.get(VersionRef.parse("letters"))
    assert version.digest == result["digest"]
    assert [entry.path for entry in version.artifact.files] == ["model.onnx"]
    assert version.lineage.source == "push"
    assert push_files(spec, tools, progress)["created"] is False
    assert list(tools.scratch.iterdir()) == []


def test_external_data_travel_with_the_model(tools: Workshop, progress: Progress) -> None:
    push_files(_spec(tools, _split()), tools, progress)
    version = tools.registry.get(VersionRef.parse("letters@1"))
    assert [entry.path for entry in version.artifact.files] == ["model.onnx", "weights.bin"]
    with tools.engine("onnx", tools.registry.folder(version, tools.scratch)) as engine:
        answer = engine.infer({"features": np.array([[0, 0, 0, 1]], dtype=np.float32)})
    assert answer["label"].tolist() == [1]


def test_a_size_that_was_claimed_wrongly_is_corrected(tools: Workshop, progress: Progress) -> None:
    spec = _spec(tools, {"m.onnx": graphs.classifier(WEIGHTS).SerializeToString()})
    right = push_files(spec, tools, progress)
    spec["files"][0]["size_bytes"] = 1
    assert push_files(spec, tools, progress)["digest"] == right["digest"]


@pytest.mark.pushes("onnx")
def test_the_real_encoder_is_registered_with_its_signature(tools: Workshop, progress: Progress) -> None:
    content = fetch(MINILM_INT8).read_bytes()
    result = push_files(_spec(tools, {"minilm.onnx": content}, "encoder"), tools, progress)
    assert [entry["name"] for entry in result["signature"]["inputs"]] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
    ]
    assert tools.registry.get(VersionRef.parse("encoder@1")).artifact.size_bytes == MINILM_INT8.size_bytes


@pytest.mark.parametrize(
    ("files", "changes", "error", "message"),
    [
        ({"README.md": b"# hello"}, {}, UnknownFormat, "'README.md' is no model: it is text that begins '# hello'"),
        (
            {"weights.bin": b"1", "more.bin": b"2"},
            {},
            UnknownFormat,
            "'more.bin' is no model: it is text that begins '2', nor is the other file",
        ),
        ({"a.onnx": b"1", "b.onnx": b"2"}, {}, UnknownFormat, "'a.onnx' is no model"),
        ({"model.onnx": b"1", "../b": b"2"}, {}, InvalidPath, "'../b'"),
        ({"model.onnx": b"1", "/etc/cron.d/x": b"2"}, {}, InvalidPath, "/etc/cron.d/x"),
        ({"model.onnx": b"1"}, {"model": "../x"}, InvalidName, "'../x' is no name for a model"),
        ({"model.onnx": b"1"}, {"engine": "tarot"}, EngineNotFound, "'tarot'"),
        ({}, {}, UnknownFormat, "0 files were pushed"),
        (
            {"model.onnx": b""},
            {"files": [{"path": "model.onnx", "sha256": "0" * 64, "size_bytes": 1}]},
            BlobNotFound,
            "0000",
        ),
    ],
)
def test_what_cannot_be_registered_leaves_nothing(
    tools: Workshop,
    progress: Progress,
    files: dict[str, bytes],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.")):
        push_files({**_spec(tools, files), **changes}, tools, progress)
    assert tools.registry.list_models() == []
    assert not tools.scratch.exists() or list(tools.scratch.iterdir()) == []


# --- signatures are edited into new versions ----------------------------------------------------------------------


def test_labels_and_names_are_given_at_the_push_or_later(tools: Workshop, progress: Progress) -> None:
    graph = graphs.classifier(WEIGHTS).SerializeToString()
    push_files(_spec(tools, {"m.onnx": graph}), tools, progress)
    first = tools.registry.get(VersionRef.parse("letters@1"))
    wishes = {"labels": ["vowel", "consonant"], "rename": {"features": "pixels", "label": "letter"}}
    spec = {"model": "letters", "files": [], "parent": 1, "wishes": wishes}
    assert push_files(spec, tools, progress)["version"] == 2
    second = tools.registry.get(VersionRef.parse("letters@2"))
    assert (second.lineage.source, second.lineage.parent) == ("edit", first.digest)
    assert second.artifact.labels == ("vowel", "consonant")
    assert [spec.name for spec in second.artifact.signature.inputs] == ["pixels"]
    assert [spec.name for spec in second.artifact.signature.outputs] == ["letter", "probabilities"]
    assert tools.registry.get(VersionRef.parse("letters@1")) == first
    rows = np.eye(4, dtype=np.float32)
    with tools.engine("onnx", tools.registry.folder(first, tools.scratch)) as engine:
        before = engine.infer({"features": rows})
    with tools.engine("onnx", tools.registry.folder(second, tools.scratch)) as engine:
        after = engine.infer({"pixels": rows})
    assert np.array_equal(before["label"], after["letter"])
    at_once = push_files({**_spec(tools, {"m.onnx": graph}), "wishes": wishes}, tools, progress)
    assert at_once["digest"] == second.digest


def test_meanings_are_said_follow_a_name_and_are_taken_away(tools: Workshop, progress: Progress) -> None:
    graph = graphs.classifier(WEIGHTS).SerializeToString()
    push_files(_spec(tools, {"m.onnx": graph}), tools, progress)

    def edited(parent: int, **wishes: Any) -> ModelVersion:
        spec = {"model": "letters", "files": [], "parent": parent, "wishes": wishes}
        return tools.registry.get(VersionRef("letters", str(push_files(spec, tools, progress)["version"])))

    said = edited(1, meanings={"features": "grey of each pixel, 0 to 1", "probabilities": "of each letter"})
    assert said.artifact.meanings == {"features": "grey of each pixel, 0 to 1", "probabilities": "of each letter"}
    named = edited(said.number, rename={"features": "pixels"})
    assert named.artifact.meanings == {"pixels": "grey of each pixel, 0 to 1", "probabilities": "of each letter"}
    assert "| input | `pixels: [n, 4] FP32` grey of each pixel, 0 to 1 |" in model_card(named, "", None)
    first = tools.registry.get(VersionRef.parse("letters@1"))
    assert edited(said.number, meanings={"features": "", "probabilities": ""}) == first
    assert len({first.digest, said.digest, named.digest}) == 3


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"labels": ["one"]}, "1 labels were given, 1 of them different, for 2 classes"),
        ({"labels": ["same", "same"]}, "2 labels were given, 1 of them different"),
        ({"rename": {"nothing": "x"}}, "'nothing' cannot be called 'x': the model's inputs and outputs are features"),
        ({"rename": {"features": "label"}}, "'features' cannot be called 'label'"),
        ({"rename": {"features": "weights"}}, "'features' cannot be called 'weights'"),
        ({"rename": {"features": ""}}, "'features' cannot be called ''"),
        ({"meanings": {"pixel": "grey"}}, "a meaning was given for 'pixel', which is neither an input nor an output"),
        ({"datatypes": {"pixel": "FP64"}}, "'pixel' is neither an input nor an output"),
        (
            {"datatypes": {"features": "INT64"}},
            "'features' cannot be INT64: the graph takes float32, and int64 does not",
        ),
        (
            {"datatypes": {"label": "INT32"}},
            "'label' cannot be INT32: the graph gives int64, and int64 does not go into",
        ),
        ({"datatypes": {"features": "BYTES"}}, "'features' cannot be BYTES"),
        ({"shapes": {"features": (-1, 3)}}, r"'features' is \[n, 4\] in the graph, and cannot become \[n, 3\]"),
        ({"shapes": {"features": (-1, -1)}}, r"cannot become \[n, n\]"),
        ({"shapes": {"features": (4,)}}, r"cannot become \[4\]"),
        ({"shapes": {"label": (1,)}}, "'label' is an output, and its shape follows from the inputs'"),
    ],
)
def test_signatures_that_do_not_fit_are_refused(
    tools: Workshop, progress: Progress, wishes: dict[str, Any], message: str
) -> None:
    spec = {**_spec(tools, {"m.onnx": graphs.classifier(WEIGHTS).SerializeToString()}), "wishes": wishes}
    with pytest.raises(InvalidModel, match=message):
        push_files(spec, tools, progress)
    assert tools.registry.list_models() == []


def test_datatypes_are_cast_in_the_graph(tools: Workshop, progress: Progress) -> None:
    graph = graphs.classifier(WEIGHTS).SerializeToString()
    push_files(_spec(tools, {"m.onnx": graph}), tools, progress)
    first = tools.registry.get(VersionRef.parse("letters@1"))
    wishes = {"rename": {"features": "pixels"}, "datatypes": {"pixels": "UINT8", "probabilities": "FP64"}}
    made = push_files({"model": "letters", "files": [], "parent": 1, "wishes": wishes}, tools, progress)
    assert made["signature"]["inputs"] == ({"name": "pixels", "datatype": "UINT8", "shape": (-1, 4)},)
    second = tools.registry.get(VersionRef.parse("letters@2"))
    assert (second.lineage.parent, second.digest == first.digest) == (first.digest, False)
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with tools.engine("onnx", tools.registry.folder(first, tools.scratch)) as engine:
        before = engine.infer({"features": rows.astype(np.float32)})
    with tools.engine("onnx", tools.registry.folder(second, tools.scratch)) as engine:
        after = engine.infer({"pixels": rows})
    assert after["probabilities"].dtype == np.float64
    assert np.array_equal(before["probabilities"], after["probabilities"])
    assert np.array_equal(before["label"], after["label"])
    back = {"datatypes": {"pixels": "BOOL", "probabilities": "FP32"}}
    again = push_files({"model": "letters", "files": [], "parent": 2, "wishes": back}, tools, progress)
    assert again["signature"]["outputs"][1]["datatype"] == "FP32"


def test_a_value_is_cast_wherever_a_branch_reads_it(tools: Workshop, progress: Progress, tmp_path: Path) -> None:
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "then", [], [graphs.value("a", ["n"])])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["b"])], "else", [], [graphs.value("b", ["n"])])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "none"], ["more"]),
        helper.make_node("If", ["more"], ["y"], then_branch=then, else_branch=other),
    ]
    none = numpy_helper.from_array(np.float32(0), "none")
    model = graphs.model(nodes, [graphs.value("x", ["n"])], [graphs.value("y", ["n"])], [none])
    wishes = {"datatypes": {"x": "FP64"}}
    push_files({**_spec(tools, {"m.onnx": model.SerializeToString()}), "wishes": wishes}, tools, progress)
    version = tools.registry.get(VersionRef.parse("letters"))
    with tools.engine("onnx", tools.registry.folder(version, tmp_path)) as engine:
        assert engine.infer({"x": np.array([3.0, 1.0])})["y"].tolist() == [-3.0, -1.0]
        assert engine.infer({"x": np.array([-3.0, 1.0])})["y"].tolist() == [3.0, 1.0]


def test_open_dimensions_are_fixed_and_the_graph_must_compute_so(tools: Workshop, progress: Progress) -> None:
    inputs = [graphs.value(name, ["n", "length"]) for name in ("a", "b")]
    summed = graphs.model(
        [helper.make_node("Add", ["a", "b"], ["sum"])], inputs, [graphs.value("sum", ["n", "length"])]
    )
    spec = {**_spec(tools, {"m.onnx": summed.SerializeToString()}), "wishes": {"shapes": {"a": (-1, 5)}}}
    signature = push_files(spec, tools, progress)["signature"]
    assert [each["shape"] for each in (*signature["inputs"], *signature["outputs"])] == [(-1, 5)] * 3
    apart = graphs.model(
        [helper.make_node("MatMul", ["a", "weights"], ["y"])], [graphs.value("a", ["n", "wide"])],
        [graphs.value("y", ["n", 2])], [numpy_helper.from_array(np.ones((4, 2), np.float32), "weights")],
    )  # fmt: skip
    spec = {**_spec(tools, {"m.onnx": apart.SerializeToString()}, "wide"), "wishes": {"shapes": {"a": (-1, 5)}}}
    with pytest.raises(InvalidModel):
        push_files(spec, tools, progress)
    spec["wishes"] = {"shapes": {"a": (1, 4)}}
    made = push_files(spec, tools, progress)
    assert made["signature"]["inputs"][0]["shape"] == (1, 4)


def test_an_input_of_pictures_keeps_its_form_under_another_name(tools: Workshop, progress: Progress) -> None:
    dims = ["n", 8, 8, 3]
    model = graphs.model([helper.make_node("Neg", ["x"], ["y"])], [graphs.value("x", dims)], [graphs.value("y", dims)])
    model.metadata_props.add(key="mofang.image", value="x")
    spec = {**_spec(tools, {"m.onnx": model.SerializeToString()}), "wishes": {"rename": {"x": "picture"}}}
    assert push_files(spec, tools, progress)["signature"]["inputs"][0] == {
        "name": "picture", "datatype": "BYTES", "shape": (-1,)
    }  # fmt: skip
    for wishes in ({"datatypes": {"x": "FP64"}}, {"shapes": {"x": (1, 8, 8, 3)}}):
        with pytest.raises(InvalidModel, match="'x' takes files of pictures"):
            push_files({**spec, "wishes": wishes}, tools, progress)


def test_ends_of_other_engines_stay_as_they_are(tools: Workshop, progress: Progress) -> None:
    good = {"upstream.json": b'{"upstream": "openai", "model": "gpt"}'}
    for wishes in ({"rename": {"text": "prompt"}}, {"datatypes": {"text": "BYTES"}}, {"shapes": {"text": (1,)}}):
        with pytest.raises(InvalidModel, match="engine 'upstream' takes and gives cannot be changed"):
            push_files({**_spec(tools, good, engine="upstream"), "wishes": wishes}, tools, progress)


def test_a_model_of_another_server_is_a_file_that_names_it(tools: Workshop, progress: Progress) -> None:
    good = {"upstream.json": b'{"upstream": "openai", "model": "gpt"}'}
    assert push_files(_spec(tools, good, engine="upstream"), tools, progress)["engine"] == "upstream"
    wrong: list[tuple[dict[str, bytes], str]] = [
        ({"upstream.json": b'{"upstream": "openai", "model": "gpt", "key": "sk-1"}'}, "key"),
        ({"upstream.json": b'{"upstream": "openai"}'}, "model"),
        ({"upstream.json": b"\xff"}, "upstream.json"),
        ({"other.json": b"{}"}, "there is no 'upstream.json'"),
    ]
    for files, told in wrong:
        with pytest.raises(InvalidModel, match=told):
            push_files(_spec(tools, files, engine="upstream"), tools, progress)


def test_a_file_that_was_measured_is_not_measured_again(
    tools: Workshop, progress: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"openvino": Speed(10.0, 20.0, 4), "llamacpp": Speed(10.0, 90.0, 4)}
    found = [Choice("openvino", "the machine is busy", "x86_64, 2 cores"),
             Choice("llamacpp", "4.5 times openvino", "x86_64, 2 cores", measured),
             Choice("openvino", "of another file", "x86_64, 2 cores", measured)]  # fmt: skip
    monkeypatch.setattr(convert_gguf, "choose_engine", lambda folder: found.pop(0))
    spec = _spec(tools, {"some.gguf": gguf()}, engine="")
    busy = push_files(spec, tools, progress)
    assert (busy["engine"], busy["choice"]["speeds"]) == ("openvino", {})
    first = push_files(spec, tools, progress)  # what could not be measured is measured with the next push
    assert (first["engine"], first["version"]) == ("llamacpp", 2)
    progress.messages.clear()
    again = push_files(spec, tools, progress)
    assert not any(message.startswith("measuring") for message in progress.messages)
    assert {**again, "created": True} == first
    other = _spec(tools, {"some.gguf": gguf() + bytes(32)}, engine="")
    assert push_files(other, tools, progress)["choice"]["why"] == "of another file"


def test_a_gguf_file_that_is_an_adapter_is_taken_as_one(tools: Workshop, progress: Watched) -> None:
    whole, half = (gguf(LORA_KEYS, rows, weights=1536) for rows in (LORA_ROWS, LORA_ROWS[:1]))
    pushed = push_files(_spec(tools, {"some.gguf": whole}, engine=""), tools, progress)
    assert (pushed["engine"], pushed["choice"]) == ("lora", None)
    (file,) = tools.registry.get(VersionRef("letters")).artifact.files
    assert file.path == "adapter.gguf"
    spec = _spec(tools, {"some.gguf": half}, "half", engine="")
    with pytest.raises(InvalidModel, match="no half of a pair"):
        push_files(spec, tools, progress)
