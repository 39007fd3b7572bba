"""A11: bad input over the sockets of a real server: refused in words, at no cost, harming nobody, billed to nobody."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call, receive, request, resident_kib, send, talk

from servers import Server

INFER = "/v2/models/scale/infer"
GOOD = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
GROWTH_KIB = 50 << 10
CHUNKED = "Transfer-Encoding: chunked"
MANY_CHUNKS = b"1\r\n \r\n" * 70_000 + b"0\r\n\r\n"
DEEP, LONG = "[" * 10_000 + "]" * 10_000, "9" * 1_000_000


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Endpoint ``scale``; in the end no process has logged a traceback."""
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    assert_answers(server)
    yield server
    for log in (server.data / "logs").iterdir():
        assert "Traceback" not in log.read_text(), log


@pytest.fixture(scope="module")
def cut_short(serving: Server) -> Iterator[socket.socket]:
    """A request that promised more than it sends, begun before the other tests: the server waits some seconds."""
    connection = send(serving, infer(serving, body(), "Content-Length: 5000"))
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def before(cut_short: socket.socket, serving: Server) -> dict[str, int]:
    """Memory of the processes that listen, before anything bad came, and how many requests were billed."""
    return {name: resident_kib(serving.process(name).pid) for name in ("gateway-0", "controller")} | {
        "billed": billed(serving)
    }


def body(old: str = "", new: str = "") -> bytes:
    return json.dumps(GOOD).replace(old, new).encode()


def infer(server: Server, content: bytes, *headers: str) -> bytes:
    return request(INFER, content, f"Authorization: Bearer {server.key}", *headers)


def assert_answers(server: Server) -> None:
    answer = talk(server, infer(server, body()))
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [2, 4, 6, 8])


def billed(server: Server) -> int:
    return sum(event.meter == "requests" for event in server.client.meter.events(endpoint="scale"))


TABLE: dict[str, tuple[bytes, tuple[str, ...], int, str]] = {
    "a length too short": (body(), ("Content-Length: 50",), 400, "request.malformed"),
    "a length that is no number": (body(), ("Content-Length: 1e3",), 400, "request.malformed"),
    "a negative length": (body(), ("Content-Length: -1",), 400, "request.malformed"),
    "two lengths": (body(), ("Content-Length: 5", "Content-Length: 6"), 400, "request.malformed"),
    "length and chunks": (body(), ("Content-Length: 5", CHUNKED), 400, "request.malformed"),
    "a length over the limit": (b"", (f"Content-Length: {65 << 20}",), 413, "request.too_large"),
    "70,000 chunks": (MANY_CHUNKS, (CHUNKED,), 413, "request.too_large"),
    "gzip 1000:1": (gzip.compress(bytes(200 << 20), 6), ("Content-Encoding: gzip",), 413, "request.too_large"),
    "gzip that is none": (body(), ("Content-Encoding: gzip",), 400, "request.malformed"),
    "a header of 1 MiB": (body(), ("X: " + "a" * (1 << 20),), 431, "request.head_too_large"),
    "JSON 10,000 deep as data": (body("[1, 2, 3, 4]", DEEP), (), 400, "request.malformed"),
    "JSON 10,000 deep": (DEEP.encode(), (), 400, "request.malformed"),
    "a number of a million digits": (body("4]}", f"{LONG}]}}"), (), 400, "tensor.data"),
    "a dimension of a million digits": (body("[1, 4]", f"[{LONG}, 4]"), (), 400, "request.malformed"),
    "NaN": (body("4]}", "NaN]}"), (), 400, "request.malformed"),
    "a negative dimension": (body("[1, 4]", "[-1, 4]"), (), 400, "tensor.shape"),
    "a dimension of 2^63": (body("[1, 4]", f"[{2**63}, 4]"), (), 400, "tensor.shape"),
    "dimensions over 2^63": (body("[1, 4]", f"[{2**31 - 1}, {2**31 - 1}, 4]"), (), 400, "tensor.shape"),
    "a name twice": (json.dumps({"inputs": GOOD["inputs"] * 2}).encode(), (), 400, "tensor.name"),
    "a wrong name": (body('"x"', '"z"'), (), 400, "tensor.name"),
    "a wrong datatype": (body("FP32", "INT32"), (), 400, "tensor.datatype"),
    "no datatype": (body("FP32", "FP33"), (), 400, "tensor.datatype"),
    "a wrong shape": (body("[1, 4]", "[4]"), (), 400, "tensor.shape"),
    "a wrong count": (body("[1, 4]", "[2, 4]"), (), 400, "tensor.data"),
    "nothing": (b"", (), 400, "request.malformed"),
    "no JSON": (b"\xff\xfe", (), 400, "request.malformed"),
    "a binary part that is not there": (
        body('"data": [1, 2, 3, 4]', '"parameters": {"binary_data_size": 16}'),
        ("Inference-Header-Content-Length: 9999",),
        400,
        "request.malformed",
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_bad_request_is_refused_in_words(serving: Server, before: dict[str, int], name: str) -> None:
    content, headers, status, code = TABLE[name]
    answer = talk(serving, infer(serving, content, *headers))
    assert (answer.status, answer.code) == (status, code), answer.json
    assert_answers(serving)


def test_a_body_without_length_is_not_taken_for_a_request(serving: Server, before: dict[str, int]) -> None:
    key = f"Authorization: Bearer {serving.key}"
    answer = talk(serving, request(INFER, None, key, method="POST") + body())
    assert (answer.status, answer.code) == (400, "request.malformed")


@pytest.mark.parametrize(
    ("path", "key", "status", "code"),
    [
        ("/v2/models/none/infer", "", 404, "endpoint.not_found"),
        ("/v2/models/scale/versions/99/infer", "", 404, "endpoint.not_found"),
        ("/v2/models/scale/versions/one/infer", "", 400, "request.malformed"),
        ("/v2/models/scale/explain", "", 404, "request.path"),
        (INFER, "mf_0123456789_abc", 401, "key.unknown"),
        (INFER, "none", 401, "key.missing"),
    ],
)
def test_unknown_names_and_keys_are_told(
    serving: Server, before: dict[str, int], path: str, key: str, status: int, code: str
) -> None:
    header = "X-Nothing: 1" if key == "none" else f"Authorization: Bearer {key or serving.key}"
    answer = talk(serving, request(path, body(), header))
    assert (answer.status, answer.code) == (status, code), answer.json


CONTROL: dict[str, tuple[bytes, tuple[str, ...], int]] = {
    "a body without length": (b"", ("Content-Length: 0",), 400),
    "70,000 chunks": (MANY_CHUNKS, (CHUNKED,), 400),
    "gzip 1000:1": (gzip.compress(bytes(200 << 20), 6), ("Content-Encoding: gzip",), 400),
    "a header of 1 MiB": (b"{}", ("X: " + "a" * (1 << 20),), 431),
    "more than the limit": (b" " * (9 << 20), (), 413),
    "JSON 10,000 deep": (DEEP.encode(), (), 400),
    "JSON 100,000 deep": (b'{"name":' * 100_000, (), 400),
    "a number of a million digits": (b'{"name": %s}' % LONG.encode(), (), 400),
    "NaN": (b'{"name": NaN}', (), 400),
    "half a surrogate": (b'{"name": "\\ud800"}', (), 400),
    "no JSON": (b"\xff\xfe", (), 400),
    "an unknown field": (b'{"name": "p", "__proto__": {}}', (), 400),
}


@pytest.mark.parametrize("name", CONTROL)
def test_a_bad_request_to_the_control_api_is_refused_too(serving: Server, before: dict[str, int], name: str) -> None:
    content, headers, status = CONTROL[name]
    fixed = (f"Authorization: Bearer {serving.key}", "Content-Type: application/json")
    answer = talk(serving, request("/api/v1/projects", content, *fixed, *headers))
    assert answer.status == status, answer.body[:500]
    assert answer.code
    assert serving.client.operate.is_ready()


def ask(name: str = "x", shape: tuple[int, ...] = (1, 4), datatype: str = "FP32", raw: bytes = bytes(16)) -> bytes:
    tensor = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    return bytes(
        pb.ModelInferRequest(model_name="scale", inputs=[tensor], raw_input_contents=[raw]).SerializeToString()
    )


def both_contents() -> bytes:
    message = pb.ModelInferRequest.FromString(ask())
    message.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return bytes(message.SerializeToString())


GRPC: dict[str, tuple[bytes, str, str]] = {
    "too few bytes": (ask(raw=bytes(12)), "INVALID_ARGUMENT", "tensor.data"),
    "too many bytes": (ask(raw=bytes(1 << 20)), "INVALID_ARGUMENT", "tensor.data"),
    "bytes for another input": (ask() + ask()[-18:], "INVALID_ARGUMENT", "request.malformed"),
    "raw and other contents": (both_contents(), "INVALID_ARGUMENT", "tensor.data"),
    "a text that is longer than it is": (
        ask(datatype="BYTES", shape=(1,), raw=b"\xff\xff\xff\xffab"),
        "INVALID_ARGUMENT",
        "tensor.data",
    ),
    "a negative dimension": (ask(shape=(-1, 4)), "INVALID_ARGUMENT", "tensor.shape"),
    "a dimension of 2^63 - 1": (ask(shape=(2**63 - 1, 4)), "INVALID_ARGUMENT", "tensor.shape"),
    "dimensions over 2^63": (ask(shape=(2**31 - 1,) * 3), "INVALID_ARGUMENT", "tensor.shape"),
    "70,000 dimensions": (ask(shape=(1,) * 70_000), "INVALID_ARGUMENT", "tensor.shape"),
    "a wrong name": (ask("z"), "INVALID_ARGUMENT", "tensor.name"),
    "a name twice": (ask() + ask(), "INVALID_ARGUMENT", "tensor.name"),
    "no datatype": (ask(datatype="FP33"), "INVALID_ARGUMENT", "tensor.datatype"),
    "no message": (b"\xff" * 100, "INVALID_ARGUMENT", "request.malformed"),
    "no inputs": (b"\x0a\x05scale", "INVALID_ARGUMENT", "tensor.name"),
    "an unknown endpoint": (b"\x0a\x04none", "NOT_FOUND", "endpoint.not_found"),
}


@pytest.mark.parametrize("name", GRPC)
def test_a_bad_message_is_refused_in_words(serving: Server, before: dict[str, int], name: str) -> None:
    message, status, code = GRPC[name]
    refusal = call(serving, "ModelInfer", message, ("authorization", f"Bearer {serving.key}"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (status, code), refusal
    assert refusal.details.startswith(f"error[{code}]: ")
    assert "\nhint: " in refusal.details
    assert refusal.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("keys", "code"), [((), "key.missing"), (("mf_0123456789_abc",), "key.unknown"), (("a", "b"), "request.malformed")]
)
def test_keys_over_grpc_are_checked_first(
    serving: Server, before: dict[str, int], keys: tuple[str, ...], code: str
) -> None:
    metadata = [("authorization", f"Bearer {key}") for key in keys]
    refusal = call(serving, "ModelInfer", b"\xff" * 100, *metadata)
    assert isinstance(refusal, Refusal)
    assert refusal.code == code


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_an_oversized_message_is_refused(
    serving: Server, before: dict[str, int], compression: grpc.Compression
) -> None:
    message = ask(raw=bytes(65 << 20))
    key = ("authorization", f"Bearer {serving.key}")
    refusal = call(serving, "ModelInfer", message, key, compression=compression)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == ("RESOURCE_EXHAUSTED", "request.too_large")


def test_oversized_metadata_is_refused(serving: Server, before: dict[str, int]) -> None:
    refusal = call(serving, "ModelInfer", ask(), ("x", "a" * (1 << 20)), ("authorization", f"Bearer {serving.key}"))
    assert isinstance(refusal, Refusal)
    assert refusal.status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


def test_a_request_that_breaks_off_is_told_so(serving: Server, cut_short: socket.socket) -> None:
    answer = receive(cut_short)
    assert (answer.status, answer.code) == (408, "request.timeout")


def test_all_of_it_cost_no_memory_and_nothing(serving: Server, before: dict[str, int]) -> None:
    assert_answers(serving)
    answer = serving.client.serve.predict("scale", {"x": np.ones((1, 4), np.float32)}, protocol="grpc")
    assert np.array_equal(answer.outputs["y"], np.full((1, 4), 2, np.float32))
    for name in ("gateway-0", "controller"):
        assert resident_kib(serving.process(name).pid) - before[name] < GROWTH_KIB, name
    assert billed(serving) == before["billed"] + len(TABLE) + 2  # the good ones between and after


def test_what_fails_leaves_nothing_behind(serving: Server, tmp_path: Path) -> None:
    assert [project.name for project in serving.client.identity.list_projects()] == ["default", "platform"]
    assert not list((serving.data / "uploads").iterdir())
    assert serving.process("gateway-0").restarts == serving.process("controller").restarts == 0
