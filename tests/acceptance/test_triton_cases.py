"""Cases after what Triton's own tests check of inputs and names; ``docs/reference/conformance.md`` has the list."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from nets import scaled
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException
from tritons import key, tensors, web
from wires import Reply, request, talk

from graphs import model, save, value
from servers import Server

DEEP = "[" * 10_000 + "]" * 10_000
TRAVERSALS = (
    "../etc", "a/../b", "../../etc/passwd", "model/..", "..", "/etc/passwd", "model/subdir", "", " ", "\t", "a b",
)  # fmt: skip


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """``scale`` takes one input, ``sum`` three, ``words`` four texts."""
    folder = tmp_path_factory.mktemp("models")
    server.serve("scale", scaled(folder / "scale", 2))
    names = ["a", "b", "c"]
    terms, total = [value(name, ("n", 2)) for name in names], [value("y", ("n", 2))]
    added = model([helper.make_node("Sum", names, ["y"])], terms, total)
    server.serve("sum", save(added, folder / "sum") / "model.onnx")
    words = [value(name, ("n", 4), TensorProto.STRING) for name in ("t", "u")]
    echo = model([helper.make_node("Identity", ["t"], ["u"])], words[:1], words[1:])
    server.serve("words", save(echo, folder / "words") / "model.onnx")
    return server


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, serving: Server) -> Any:
    """The module, and a function that infers."""
    module, address = (triton_http, web(serving)) if request.param == "http" else (triton_grpc, serving.grpc)
    with module.InferenceServerClient(address) as client:
        yield module, lambda name, inputs: client.infer(name, inputs, headers=key(serving))


def refused(call: Any) -> str:
    """Return what a call is refused with: always as the caller's fault."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT"), caught.value
    return str(caught.value.message())


@pytest.mark.parametrize(("given", "named"), [("", "'a'"), ("a", "'b'"), ("ab", "'c'"), ("abcd", "'d'")])
def test_every_input_is_needed_and_no_other(triton: tuple[Any, Any], given: str, named: str) -> None:
    module, infer = triton
    made = tensors(module, **{name: np.ones((1, 2), np.float32) for name in given})
    told = refused(lambda: infer("sum", made))
    assert named in told
    assert "sum" in told
    good = tensors(module, **{name: np.ones((1, 2), np.float32) for name in "abc"})
    assert infer("sum", good).as_numpy("y").tolist() == [[3, 3]]


@pytest.mark.parametrize("count", [3, 6])
def test_a_tensor_has_the_bytes_of_its_shape(triton: tuple[Any, Any], count: int) -> None:
    module, infer = triton
    [tensor] = tensors(module, x=np.ones((1, count), np.float32))
    tensor.set_shape([1, 4])
    assert f"takes 16 bytes, got {4 * count}" in refused(lambda: infer("scale", [tensor]))


@pytest.mark.parametrize("count", [2, 5])
def test_a_tensor_of_texts_has_as_many_as_its_shape(triton: tuple[Any, Any], count: int) -> None:
    module, infer = triton
    [tensor] = tensors(module, t=np.array([["word"] * count], np.object_))
    tensor.set_shape([1, 4])
    assert "'t'" in refused(lambda: infer("words", [tensor]))


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_name_is_a_name_whatever_is_asked(serving: Server, name: str) -> None:
    client = triton_grpc.InferenceServerClient(serving.grpc)
    asks = {
        "infer": lambda: client.infer(name, tensors(triton_grpc, x=np.ones((1, 4), np.float32)), headers=key(serving)),
        "load": lambda: client.load_model(name, headers=key(serving)),
        "unload": lambda: client.unload_model(name, headers=key(serving)),
        "metadata": lambda: client.get_model_metadata(name, headers=key(serving)),
    }
    with client:
        for what, ask in asks.items():
            with pytest.raises(InferenceServerException) as caught:
                ask()
            allowed = ("FAILED_PRECONDITION",) if what.endswith("load") else ("INVALID_ARGUMENT", "NOT_FOUND")
            assert str(caught.value.status()).removeprefix("StatusCode.") in allowed, (what, caught.value)


def body(shape: tuple[int, ...] = (1, 4), **more: object) -> str:
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": [1, 2, 3, 4]}], **more})


INFER, INDEX = "/v2/models/scale/infer", "/v2/repository/index"
LENGTHS = ("-1", "x", "1e2", "5", "5000", str(2**32), str(2**64), "0x10", "9" * 400)
BAD: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "an index ten thousand deep": (INDEX, DEEP, ()),
    "an index ten thousand deep in a field": (INDEX, f'{{"ready": {DEEP}}}', ()),
    "2^64 + 32 elements": (INFER, body((16, 2**60 + 2)), ()),
    "2^64 + 32 bytes": (INFER, body((4, 2**60 + 2)), ()),
    "a negative size": (INFER, body((2, -5)), ()),
    "an output twice": (INFER, body(outputs=[{"name": "y"}, {"name": "y"}]), ()),
    "an output there is not": (INFER, body(outputs=[{"name": "z"}]), ()),
} | {f"JSON of {each} bytes": (INFER, body(), (f"Inference-Header-Content-Length: {each}",)) for each in LENGTHS}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_words(serving: Server, case: str) -> None:
    path, content, headers = BAD[case]
    answer = send(serving, path, content.encode(), *headers)
    assert (answer.status, bool(answer.code)) == (400, True), answer.json
    assert send(serving, INFER, body().encode()).json["outputs"][0]["data"] == [2, 4, 6, 8]


def send(server: Server, path: str, content: bytes, *headers: str) -> Reply:
    return talk(server, request(path, content, f"Authorization: Bearer {server.key}", *headers))


def test_bytes_alone_are_one_input_and_no_guess(serving: Server) -> None:
    def tell(endpoint: str, content: bytes) -> Reply:
        return send(serving, f"/v2/models/{endpoint}/infer", content, "Inference-Header-Content-Length: 0")

    for rows in (1, 8):
        data = np.arange(4 * rows, dtype=np.float32)
        answer = tell("scale", data.tobytes())
        assert answer.status == 200
        assert answer.body.endswith((2 * data).tobytes())
    for endpoint, content in (("sum", bytes(24)), ("words", b"427"), ("scale", bytes(15)), ("scale", b"")):
        answer = tell(endpoint, content)
        assert (answer.status, bool(answer.code)) == (400, True), (endpoint, answer.body)
