"""Our messages are the protocol's: compared field by field, and byte by byte, with tritonclient's."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tritonclient.grpc import InferInput, service_pb2

from mofang.base.domain import errors
from mofang.base.domain.inference import InferResponse
from mofang.base.domain.tensors import NUMPY, Array
from mofang.surface.protocols.grpc.codec import parse_infer, render_infer
from mofang.surface.wire import inference_pb2 as pb

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def messages(descriptor: object) -> dict[str, dict[int, tuple[str, int, int, str]]]:
    """Every message, nested ones too, as number -> (name, type, label, type name)."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor.CopyToProto(file)
    found = {}

    def walk(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        found[prefix + message.name] = {f.number: (f.name, f.type, f.label, f.type_name) for f in message.field}
        for nested in message.nested_type:
            walk(nested, f"{prefix}{message.name}.")

    for message in file.message_type:
        walk(message, "")
    return found


OURS, TRITONS = messages(pb.DESCRIPTOR), messages(service_pb2.DESCRIPTOR)
PARTLY = {"ModelStatistics": 7}  # fields of the protocol that are left out are those nothing here measures


@pytest.mark.parametrize("name", OURS)
def test_every_message_has_the_protocols_fields(name: str) -> None:
    assert OURS[name] == {
        number: field for number, field in TRITONS[name].items() if number <= PARTLY.get(name, number)
    }


def test_the_package_and_the_calls_are_the_protocols() -> None:
    ours, tritons = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(ours)
    service_pb2.DESCRIPTOR.CopyToProto(tritons)
    assert (ours.package, ours.service[0].name) == (tritons.package, tritons.service[0].name)
    assert calls(ours).items() <= calls(tritons).items()


def calls(file: descriptor_pb2.FileDescriptorProto) -> dict[str, tuple[str, str, bool, bool]]:
    methods = file.service[0].method
    return {m.name: (m.input_type, m.output_type, m.client_streaming, m.server_streaming) for m in methods}


@pytest.mark.parametrize("first", ["mofang.surface.wire.inference_pb2", "tritonclient.grpc"])
def test_both_can_be_imported_in_one_process(first: str) -> None:
    code = f"import {first}, tritonclient.grpc, mofang.surface.wire.inference_pb2"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_generated_modules_are_up_to_date() -> None:
    generate = runpy.run_path(str(Path(__file__).parents[3] / "proto" / "generate.py"))
    for path, text in generate["pages"]().items():
        assert path.read_text() == text


def arrays(datatype: str) -> st.SearchStrategy[Array]:
    if datatype == "BYTES":
        return hnp.arrays(object, SHAPES, elements=st.binary(max_size=6))
    return hnp.arrays(NUMPY[datatype], SHAPES)


def equal(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(NUMPY)).flatmap(lambda d: st.tuples(st.just(d), arrays(d))))
def test_round_trip_with_triton(case: tuple[str, Array]) -> None:
    datatype, array = case
    tensor = InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    theirs = service_pb2.ModelInferRequest(model_name="m", id="mine", inputs=[tensor._get_tensor()])
    theirs.raw_input_contents.append(tensor._get_content() or b"")
    request = parse_infer(pb.ModelInferRequest.FromString(theirs.SerializeToString()))
    assert equal(request.inputs["x"], array)
    answer = render_infer(InferResponse("r", "m", 3, 1, "d", request.inputs, "mine"), raw=True)
    back = service_pb2.ModelInferResponse.FromString(answer.SerializeToString())
    assert (back.model_version, back.id, back.outputs[0].datatype) == ("3", "mine", datatype)
    assert list(back.outputs[0].shape) == list(array.shape)
    assert back.raw_output_contents[0] == theirs.raw_input_contents[0]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([d for d in NUMPY if d != "FP16"]).flatmap(lambda d: st.tuples(st.just(d), arrays(d))))
def test_round_trip_through_contents(case: tuple[str, Array]) -> None:
    datatype, array = case
    answer = render_infer(InferResponse("r", "m", 3, 1, "d", {"x": array}), raw=False)
    (output,) = answer.outputs
    tensor = {"name": "x", "datatype": output.datatype, "shape": output.shape, "contents": output.contents}
    request = parse_infer(pb.ModelInferRequest(model_name="m", inputs=[tensor]))
    assert output.datatype == datatype
    if array.dtype.kind == "f":
        assert np.array_equal(request.inputs["x"], array, equal_nan=True)
    else:
        assert equal(request.inputs["x"], array)


def test_fp16_answers_go_raw() -> None:
    outputs = {"a": np.array([1.5], np.float16), "b": np.array([2], np.int8)}
    answer = render_infer(InferResponse("r", "m", 1, 1, "d", outputs), raw=False)
    assert list(answer.raw_output_contents) == [b"\x00\x3e", b"\x02"]


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "x", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1, 2]}, **changes}


BAD = {
    "duplicate input": ({"inputs": [tensor(), tensor()]}, errors.TensorName),
    "duplicate output": ({"outputs": [{"name": "y"}, {"name": "y"}]}, errors.TensorName),
    "wrong datatype": ({"inputs": [tensor(datatype="FLOAT")]}, errors.TensorDatatype),
    "negative dimension": ({"inputs": [tensor(shape=[-2])]}, errors.TensorShape),
    "empty, and too large": ({"inputs": [tensor(shape=[0, *[2**31 - 1] * 3])]}, errors.TensorShape),
    "large dimension": ({"inputs": [tensor(shape=[2**63 - 1])]}, errors.TensorShape),
    "overflowing dimensions": ({"inputs": [tensor(shape=[2**31 - 1] * 4)]}, errors.TensorShape),
    "too few values": ({"inputs": [tensor(shape=[3])]}, errors.TensorData),
    "no contents": ({"inputs": [tensor(contents=None)]}, errors.TensorData),
    "wrong field": ({"inputs": [tensor(contents={"int_contents": [1, 2]})]}, errors.TensorData),
    "two fields": (
        {"inputs": [tensor(contents={"fp32_contents": [1, 2], "bytes_contents": [b""]})]},
        errors.TensorData,
    ),
    "300 in UINT8": ({"inputs": [tensor(datatype="UINT8", contents={"uint_contents": [1, 300]})]}, errors.TensorData),
    "FP16 in contents": ({"inputs": [tensor(datatype="FP16")]}, errors.TensorData),
    "raw and contents": ({"inputs": [tensor()], "raw_input_contents": [b"12345678"]}, errors.TensorData),
    "raw too short": ({"inputs": [tensor(contents=None)], "raw_input_contents": [b"1"]}, errors.TensorData),
    "raw for nothing": ({"raw_input_contents": [b"1"]}, errors.InvalidRequest),
    "shared memory": (
        {"inputs": [tensor(parameters={"shared_memory_region": {"string_param": "r"}})]},
        errors.InvalidRequest,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused(case: str) -> None:
    fields, cls = BAD[case]
    with pytest.raises(cls):
        parse_infer(pb.ModelInferRequest(model_name="m", **fields))
