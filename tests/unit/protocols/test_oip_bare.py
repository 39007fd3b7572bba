"""Bodies without JSON: the bytes of the one input, whose shape follows from the model's signature."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from fake_lane import KEY, FakeLane
from mofang.base.domain.errors import InvalidRequest, MofangError, TensorData, TensorName
from mofang.base.domain.tensors import Datatype, Signature, TensorSpec
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.oip.bare import parse_bare
from mofang.surface.protocols.oip.codec import JSON_LENGTH
from mofang.surface.protocols.oip.rest import OipRest


def taking(*inputs: tuple[Datatype, tuple[int, ...]]) -> Signature:
    specs = [TensorSpec(f"x{number}", *each) for number, each in enumerate(inputs)]
    return Signature(tuple(specs), (TensorSpec("y", "FP32", (-1,)),))


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ((-1, 4), (3, 4)),
        ((3, 4), (3, 4)),
        ((-1,), (12,)),
        ((-1, -1), (1, 12)),
        ((-1, 2, -1), (1, 2, 6)),
        ((2, -1), (2, 6)),
    ],
)
def test_the_shape_follows_from_signature_and_size(declared: tuple[int, ...], found: tuple[int, ...]) -> None:
    data = np.arange(12, dtype=np.float32)
    request, wants = parse_bare("e", "3", taking(("FP32", declared)), {}, data.tobytes())
    assert (request.endpoint, request.version, request.outputs) == ("e", "3", ())
    assert request.inputs["x0"].shape == found
    assert request.inputs["x0"].tobytes() == data.tobytes()
    assert wants.otherwise


@pytest.mark.parametrize("shape", [(1,), (-1,), (-1, 1)])
def test_of_texts_the_body_is_the_only_one(shape: tuple[int, ...]) -> None:
    request, _ = parse_bare("e", "", taking(("BYTES", shape)), {}, b"427")
    assert request.inputs["x0"].ravel().tolist() == [b"427"]
    assert request.inputs["x0"].ndim == len(shape)


@pytest.mark.parametrize(
    ("signature", "body", "error"),
    [
        (taking(("FP32", (-1, 4)), ("FP32", (-1, 4))), bytes(32), TensorName),
        (taking(("FP32", (-1, -1, -1))), bytes(32), InvalidRequest),
        (taking(("FP32", (2, -1, -1))), bytes(32), InvalidRequest),
        (taking(("FP32", (-1, 4))), bytes(17), TensorData),
        (taking(("FP32", (2, 4))), bytes(16), TensorData),
        (taking(("FP32", (-1, 0))), bytes(16), TensorData),
        (taking(("BYTES", (2,))), b"427", TensorData),
        (taking(("FP32", (-1, 4))), b"", InvalidRequest),
    ],
)
def test_what_does_not_follow_is_refused(signature: Signature, body: bytes, error: type[MofangError]) -> None:
    with pytest.raises(error):
        parse_bare("e", "", signature, {}, body)


def send(body: bytes, **headers: str) -> HttpResponse:
    told = {"authorization": KEY, JSON_LENGTH: "0", **headers}
    request = HttpRequest("POST", "/v2/models/digits/infer", "", told, body)
    return asyncio.run(OipRest(FakeLane()).respond(request, "req_1"))


def test_the_answer_is_binary() -> None:
    answer = send(np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32).tobytes())
    assert answer.status == 200
    length = int(dict(answer.fields())[JSON_LENGTH])
    assert np.frombuffer(answer.body[length:], np.float32).tolist() == [2, 4, 10, 12]
    assert send(bytes(15)).status == 400
    assert send(bytes(16), authorization="Bearer bad").status == 401
