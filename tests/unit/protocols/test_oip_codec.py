"""The OIP codec against tritonclient's own encoder and decoder, and against bad input."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from mofang.base.domain import errors
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.tensors import NUMPY, Array
from mofang.surface.protocols.oip.codec import JSON_LENGTH, parse_infer
from mofang.surface.protocols.oip.render import render_infer

NUMERIC = [name for name in NUMPY if name != "BYTES"]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def arrays(datatype: str, finite: bool) -> st.SearchStrategy[Array]:
    elements = None
    if datatype in ("FP32", "FP64") and finite:
        width = 32 if datatype == "FP32" else 64
        elements = st.floats(allow_nan=False, allow_infinity=False, width=width)
    if datatype == "BYTES":
        text = st.text(max_size=6).map(str.encode) if finite else st.binary(max_size=6)
        return SHAPES.flatmap(
            lambda shape: st.lists(text, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
                lambda items: objects(items, shape)
            )
        )
    return hnp.arrays(NUMPY[datatype], SHAPES, elements=elements)


def objects(items: list[bytes], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


@st.composite
def tensors(draw: st.DrawFn, binary: bool) -> tuple[str, Array]:
    names = list(NUMPY) if binary else [name for name in NUMPY if name != "FP16"]
    datatype = draw(st.sampled_from(names))
    return datatype, draw(arrays(datatype, finite=not binary))


def triton_request(*tensors: tuple[str, str, Array, bool]) -> tuple[bytes, dict[str, str]]:
    inputs = []
    for name, datatype, array, binary in tensors:
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    outputs = [InferRequestedOutput(name, binary_data=binary) for name, _, _, binary in tensors]
    body, length = InferenceServerClient.generate_request_body(inputs, outputs=outputs, request_id="mine")
    return body, {} if length is None else {JSON_LENGTH: str(length)}


def equal(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


@settings(max_examples=150, deadline=None)
@given(st.booleans().flatmap(lambda b: tensors(b).map(lambda t: (*t, b))), st.integers(0, 3))
def test_round_trip_with_triton(first: tuple[str, Array, bool], padding: int) -> None:
    datatype, array, binary = first
    other = np.arange(padding, dtype=np.uint8)  # moves the first tensor to odd places
    body, headers = triton_request(("pad", "UINT8", other, True), ("x", datatype, array, binary))
    request, wants = parse_infer("digits", "3", headers, body)
    assert (request.endpoint, request.version, request.client_id) == ("digits", "3", "mine")
    assert request.outputs == ("pad", "x")
    assert equal(request.inputs["x"], array)
    assert equal(request.inputs["pad"], other)
    assert request.inputs["x"].flags.aligned

    answer = InferResponse("r", "digits", 3, 1, "sha256:0", request.inputs, "mine")
    content, length = render_infer(answer, wants)
    result = InferenceServerClient.parse_response_body(content, header_length=length)
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("digits", "3", "mine")
    assert [output["name"] for output in head["outputs"]] == ["pad", "x"]
    assert result.get_output("x")["datatype"] == datatype
    got = result.as_numpy("x")
    if datatype == "BYTES" and not binary:
        got = objects([text.encode() for text in got.ravel().tolist()], array.shape)
    assert equal(got, array)


def ask(**changes: object) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2], **changes}
    return json.dumps({"inputs": [{k: v for k, v in tensor.items() if v is not None}]}).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_flat_and_nested_data_are_the_same(data: list[object]) -> None:
    request, _ = parse_infer("e", "", {}, ask(shape=[2, 3], data=data))
    assert request.inputs["x"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_unknown_parameters_are_ignored() -> None:
    body = ask(parameters={"mine": "a"}).replace(b'{"inputs"', b'{"parameters": {"k": 1.5}, "inputs"')
    request, wants = parse_infer("e", "", {}, body)
    assert request.inputs["x"].tolist() == [[1, 2]]
    assert not wants.otherwise


def test_binary_can_be_the_default_of_all_outputs() -> None:
    body = json.dumps(
        {
            "inputs": [],
            "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    request, wants = parse_infer("e", "", {}, body)
    outputs = {name: np.array([1], dtype=np.int8) for name in request.outputs}
    content, length = render_infer(InferResponse("r", "e", 1, 1, "d", outputs), wants)
    assert length is not None
    assert content[length:] == b"\x01"
    assert json.loads(content[:length])["outputs"][1]["data"] == [1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("datatype", [np.float16, np.float32, np.float64])
def test_json_refuses_to_write_what_it_cannot(bad: float, datatype: type) -> None:
    _, wants = parse_infer("e", "", {}, ask())
    answer = InferResponse("r", "e", 1, 1, "d", {"y": np.array([1, bad], dtype=datatype)})
    with pytest.raises(errors.OutputNotJson) as caught:
        render_infer(answer, wants)
    assert "binary" in caught.value.hint


def test_the_word_null_may_be_data() -> None:
    _, wants = parse_infer("e", "", {}, ask())
    outputs = {"y": objects([b"null"], (1,)), "z": np.array([1.5], dtype=np.float32)}
    content, _ = render_infer(InferResponse("r", "e", 1, 1, "d", outputs), wants)
    assert json.loads(content)["outputs"][0]["data"] == ["null"]


BAD = {
    "not json": (b"{", errors.InvalidRequest, "cut off"),
    "empty": (b"", errors.InvalidRequest, "empty"),
    "not an object": (b"[]", errors.InvalidRequest, "object"),
    "no inputs": (b"{}", errors.InvalidRequest, "inputs"),
    "NaN": (ask(data=[float("nan"), 1]), errors.InvalidRequest, "malformed"),
    "Infinity": (ask(data=[float("inf"), 1]), errors.InvalidRequest, "malformed"),
    "depth 10,000": (b'{"inputs":' + b"[" * 10_000 + b"]" * 10_000 + b"}", errors.InvalidRequest, ""),
    "depth 10,000 in data": (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 10_000 + b"]" * 10_000 + b"}]}",
        errors.InvalidRequest,
        "deep",
    ),
    "depth 10,000 in the unknown": (
        b'{"inputs":[],"more":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
        errors.InvalidRequest,
        "deep",
    ),
    "a number of a million digits": (
        ask().replace(b"[1, 2]}", b"[1, " + b"9" * 1_000_000 + b"]}"),
        errors.TensorData,
        "range",
    ),
    "an integer of a million digits": (
        ask(datatype="INT64").replace(b"[1, 2]}", b"[1, " + b"9" * 1_000_000 + b"]}"),
        errors.TensorData,
        "range",
    ),
    "a dimension of a million digits": (
        ask().replace(b"[1, 2], ", b"[1, " + b"9" * 1_000_000 + b"], "),
        errors.InvalidRequest,
        "range",
    ),
    "negative dimension": (ask(shape=[-1, 2]), errors.TensorShape, "-1"),
    "empty, and too large": (ask(shape=[0, *[2**31 - 1] * 3], data=[]), errors.TensorShape, "too large"),
    "dimension 2^63": (ask(shape=[2**63, 2]), errors.TensorShape, str(2**63)),
    "dimensions that overflow": (ask(shape=[2**31 - 1] * 3), errors.TensorShape, "elements"),
    "too many dimensions": (ask(shape=[1] * 33), errors.TensorShape, "33"),
    "shape of floats": (ask(shape=[1.0, 2]), errors.InvalidRequest, "shape"),
    "shape of null": (ask(shape="[1]"), errors.InvalidRequest, "shape"),
    "too few values": (ask(data=[1]), errors.TensorData, "has 1"),
    "too many values": (ask(data=[1, 2, 3]), errors.TensorData, "has 3"),
    "no values": (ask(data=[]), errors.TensorData, "has"),
    "values where none fit": (ask(shape=[0, 2]), errors.TensorData, "has 2"),
    "ragged": (ask(shape=[2, 2], data=[[1, 2, 3], [4]]), errors.TensorShape, "nesting"),
    "nested otherwise": (ask(shape=[1, 2], data=[[1], [2]]), errors.TensorShape, "nesting"),
    "nested too deep": (ask(data=[[[1, 2]]]), errors.TensorData, "array"),
    "nothing": (ask(data=None), errors.TensorData, "no data"),
    "data is a number": (ask(data=1), errors.TensorData, ""),
    "data is an object": (ask(data={"a": 1, "b": 2}), errors.TensorData, "array"),
    "wrong datatype": (ask(datatype="FLOAT32"), errors.TensorDatatype, "FLOAT32"),
    "datatype in lower case": (ask(datatype="fp32"), errors.TensorDatatype, "fp32"),
    "bool as FP32": (ask(data=[True, 1]), errors.TensorData, "bool"),
    "bool as INT8": (ask(datatype="INT8", data=[True, 1]), errors.TensorData, "bool"),
    "number as BOOL": (ask(datatype="BOOL", data=[1, 0]), errors.TensorData, "bool"),
    "number as BYTES": (ask(datatype="BYTES", data=[1, 0]), errors.TensorData, "str"),
    "string as FP32": (ask(data=["1", "2"]), errors.TensorData, "str"),
    "null": (ask(data=[1, None]), errors.TensorData, "null"),
    "1.5 in INT64": (ask(datatype="INT64", data=[1.5, 1]), errors.TensorData, "float"),
    "300 in UINT8": (ask(datatype="UINT8", data=[1, 300]), errors.TensorData, "300"),
    "-1 in UINT64": (ask(datatype="UINT64", data=[1, -1]), errors.TensorData, "-1"),
    "2^64 in UINT64": (ask(datatype="UINT64", data=[1, 2**64]), errors.TensorData, str(2**64)),
    "1e39 in FP32": (ask(data=[1, 1e39]), errors.TensorData, "1e+39"),
    "FP16": (ask(datatype="FP16"), errors.TensorData, "FP16"),
    "invalid UTF-8": (
        ask(datatype="BYTES", data=["a", "b"]).replace(b'"b"', b'"\xff"'),
        errors.InvalidRequest,
        "UTF-8",
    ),
    "half a surrogate": (ask(datatype="BYTES", data=["a", "\ud800"]), errors.MofangError, ""),
    "duplicate input": (
        json.dumps({"inputs": json.loads(ask())["inputs"] * 2}).encode(),
        errors.TensorName,
        "twice",
    ),
    "duplicate output": (b'{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}', errors.TensorName, "twice"),
    "duplicate key": (b'{"inputs":[],"inputs":[]}', errors.InvalidRequest, "'inputs'"),
    "duplicate key in a tensor": (
        ask().replace(b'"shape"', b'"shape": [2], "shape"'),
        errors.InvalidRequest,
        "'shape'",
    ),
    "duplicate parameters": (
        ask().replace(b'"shape"', b'"parameters": {}, "parameters": {}, "parameters": {}, "shape"'),
        errors.InvalidRequest,
        "'parameters'",
    ),
    "nested parameter": (ask(parameters={"a": [1]}), errors.InvalidRequest, "parameters"),
    "shared memory": (ask(parameters={"shared_memory_region": "r"}), errors.InvalidRequest, "shared memory"),
    "binary size of bool": (ask(parameters={"binary_data_size": True}), errors.InvalidRequest, "True"),
    "negative binary size": (ask(parameters={"binary_data_size": -1}), errors.InvalidRequest, "-1"),
    "binary without bytes": (ask(data=None, parameters={"binary_data_size": 8}), errors.TensorData, "0 bytes left"),
    "both": (ask(parameters={"binary_data_size": 0}), errors.TensorData, "both"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_bodies_are_refused_in_words(case: str) -> None:
    body, cls, words = BAD[case]
    with pytest.raises(cls) as caught:
        parse_infer("e", "", {}, body)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_nearest_datatype_is_named() -> None:
    with pytest.raises(errors.TensorDatatype) as caught:
        parse_infer("e", "", {}, ask(datatype="float32"))
    assert "FP32" in caught.value.hint.split("known")[0]


def test_a_value_that_reads_like_a_key_is_no_duplicate() -> None:
    body = ask(name="inputs").replace(b'"x"', b'"inputs"')
    assert parse_infer("e", "", {}, body)[0].inputs["inputs"].shape == (1, 2)


def binary(shape: list[int], raw: bytes, *, datatype: str = "FP32", size: object = None, length: str = "") -> tuple:
    tensor = {"name": "x", "datatype": datatype, "shape": shape}
    tensor["parameters"] = {"binary_data_size": len(raw) if size is None else size}
    text = json.dumps({"inputs": [tensor]}).encode()
    return {JSON_LENGTH: length or str(len(text))}, text + raw


BAD_BINARY = {
    "size beyond the body": (binary([1], b"1234", size=5), errors.TensorData),
    "size short of the body": (binary([1], b"12345678", size=4), errors.InvalidRequest),
    "not the size of the shape": (binary([2], b"1234"), errors.TensorData),
    "length beyond the body": (binary([1], b"1234", length="100000"), errors.InvalidRequest),
    "negative length": (binary([1], b"1234", length="-1"), errors.InvalidRequest),
    "length of a million digits": (binary([1], b"1234", length="9" * 1_000_000), errors.InvalidRequest),
    "length in the JSON": (binary([1], b"1234", length="5"), errors.InvalidRequest),
    "negative dimension": (binary([-1], b"1234"), errors.TensorShape),
    "overflow to the right size": (binary([2**62, 4, 1], b""), errors.TensorShape),
    "BOOL of 2": (binary([1], b"\x02", datatype="BOOL"), errors.TensorData),
    "BYTES that lie": (binary([1], b"\xff\xff\xff\xffab", datatype="BYTES"), errors.TensorData),
    "BYTES cut off": (binary([2], b"\x01\0\0\0a\x01\0", datatype="BYTES"), errors.TensorData),
    "BYTES too few": (binary([2], b"\x01\0\0\0a", datatype="BYTES"), errors.TensorData),
    "BYTES too many": (binary([1], b"\x01\0\0\0a" * 2, datatype="BYTES"), errors.TensorData),
}


@pytest.mark.parametrize("case", BAD_BINARY)
def test_bad_binary_data_is_refused(case: str) -> None:
    (headers, body), cls = BAD_BINARY[case]
    with pytest.raises(cls):
        parse_infer("e", "", headers, body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.one_of(st.none(), st.integers(0, 250).map(str), st.text(max_size=5)))
def test_any_bytes_are_parsed_or_refused(body: bytes, length: str | None) -> None:
    headers = {} if length is None else {JSON_LENGTH: length}
    with suppress(errors.Invalid):
        parse_infer("e", "", headers, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
TENSOR = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "y"]), "datatype": st.sampled_from([*NUMPY, "FP8"])},
    optional={"shape": st.lists(st.integers(-1, 3) | JSON, max_size=4), "data": JSON, "parameters": JSON},
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TENSOR, max_size=3), JSON)
def test_any_json_is_parsed_or_refused(inputs: list[object], outputs: object) -> None:
    with suppress(errors.Invalid):
        parse_infer("e", "", {}, json.dumps({"inputs": inputs, "outputs": outputs}).encode())
