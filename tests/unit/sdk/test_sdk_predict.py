"""Predictions over REST: through the platform's own protocol code, without a network."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fake_lane import FakeLane
from mofang import Client
from mofang.base.domain.errors import EndpointNotFound, InvalidRequest, TensorData, TensorDatatype, TensorShape
from mofang.base.domain.errors import UnknownKey as WrongKey
from mofang.base.domain.tensors import NUMPY, Array, datatype_of
from mofang.surface.protocols.http import HttpRequest
from mofang.surface.protocols.oip.rest import OipRest
from mofang.surface.wire.raw import decode_raw, encode_raw


def connect(lane: FakeLane, key: str = "good") -> Client:
    rest = OipRest(lane)

    def answer(request: httpx.Request) -> httpx.Response:
        path, _, query = request.url.raw_path.decode().partition("?")
        asked = HttpRequest(request.method, path, query, dict(request.headers), request.read())
        response = asyncio.run(rest.respond(asked, "req_1"))
        return httpx.Response(response.status, headers=response.fields(), content=response.body)

    return Client(key=key, transport=httpx.MockTransport(answer))


def test_an_answer_names_what_made_it() -> None:
    with connect(FakeLane()) as client:
        x = np.arange(8, dtype=np.float32).reshape(2, 4)
        answer = client.serve.predict("digits", {"x": x})
        np.testing.assert_array_equal(answer.outputs["y"], x[:, :2] * 2)
        assert (answer.endpoint, answer.version, answer.revision) == ("digits", 3, 7)
        assert (answer.digest, answer.request_id) == ("sha256:abc", "req_1")
        assert client.serve.predict("digits", {"x": x}, version="3").version == 3


def test_refusals_are_the_errors_of_the_server() -> None:
    row = np.ones((1, 4), np.float32)
    with connect(FakeLane()) as client:
        with pytest.raises(TensorShape):
            client.serve.predict("digits", {"x": row[:, :3]})
        with pytest.raises(TensorDatatype):
            client.serve.predict("digits", {"x": row.astype(np.float64)})
        with pytest.raises(EndpointNotFound):
            client.serve.predict("nothing", {"x": row})
        with pytest.raises(EndpointNotFound):
            client.serve.predict("digits", {"x": row}, version="4")
        with pytest.raises(InvalidRequest, match="'soap' is no protocol"):
            client.serve.predict("digits", {"x": row}, protocol="soap")  # type: ignore[arg-type]
    with connect(FakeLane(), "bad") as client, pytest.raises(WrongKey):
        client.serve.predict("digits", {"x": row})


def test_metadata_and_readiness() -> None:
    with connect(FakeLane()) as client:
        assert client.serve.metadata("digits")["inputs"][0]["datatype"] == "FP32"
        assert client.serve.is_ready("digits")
        assert not client.serve.is_ready("broken")
        assert not client.serve.is_ready("nothing")
        assert client.operate.is_ready()


arrays = st.one_of(
    st.sampled_from([dtype for name, dtype in NUMPY.items() if name != "BYTES"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    ),
    st.lists(st.binary(max_size=20), max_size=5).map(lambda items: np.array([None, *items], dtype=object)[1:]),
)


def same(left: Array, right: Array) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tolist().__repr__() == right.tolist().__repr__()
    )


@given(arrays)
def test_the_raw_form_loses_nothing(array: Array) -> None:
    raw = encode_raw(array)
    assert same(decode_raw("x", datatype_of(array), array.shape, raw), array)


@given(arrays.filter(lambda array: array.size > 0))
def test_a_cut_tensor_is_noticed(array: Array) -> None:
    with pytest.raises((TensorData, ValueError)):
        decode_raw("x", datatype_of(array), array.shape, encode_raw(array)[:-1])


@given(
    st.dictionaries(st.sampled_from("abc"), arrays.filter(lambda array: array.size > 0 and array.ndim > 0), min_size=1)
)
def test_what_is_sent_is_what_arrives(inputs: dict[str, Array]) -> None:
    with connect(FakeLane()) as client:
        answer = client.serve.predict("echo", inputs)
    assert list(answer.outputs) == list(inputs)
    assert all(same(answer.outputs[name], array) for name, array in inputs.items())


def test_texts_go_as_utf8() -> None:
    with connect(FakeLane()) as client:
        answer = client.serve.predict("echo", {"x": np.array(["模坊", "b"])})
        assert answer.outputs["x"].tolist() == ["模坊".encode(), b"b"]
