"""Clients as people have them: tritonclient unmodified, plain HTTP, keys over two gateways, answers that tell all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from nets import scaled
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

import graphs
from mofang import Client
from mofang.base.domain.errors import ExpiredKey, Forbidden, MofangError, UnknownKey
from servers import Server, wait_until

KINDS = {
    "BOOL": (TensorProto.BOOL, np.array([[True], [False]])),
    "INT8": (TensorProto.INT8, np.array([[-128], [127]], np.int8)),
    "INT32": (TensorProto.INT32, np.array([[-(2**31)], [2**31 - 1]], np.int32)),
    "INT64": (TensorProto.INT64, np.array([[-(2**63)], [2**63 - 1]], np.int64)),
    "UINT8": (TensorProto.UINT8, np.array([[0], [255]], np.uint8)),
    "FP32": (TensorProto.FLOAT, np.array([[0.1], [-1e30]], np.float32)),
    "FP64": (TensorProto.DOUBLE, np.array([[0.1], [1e300]])),
    "BYTES": (TensorProto.STRING, np.array([["Grüße, 魔方".encode()], [b""]], np.object_)),
}
ROW = np.array([[1, 2, 3, 4]], np.float32)


def echo(folder: Path) -> Path:
    """Give back an input of every datatype."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in KINDS]
    inputs = [graphs.value(name, ("n", 1), kind) for name, (kind, _) in KINDS.items()]
    outputs = [graphs.value(f"{name}_out", ("n", 1), kind) for name, (kind, _) in KINDS.items()]
    return graphs.save(graphs.model(nodes, inputs, outputs), folder) / "model.onnx"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two gateways in front of ``scale`` (its second version, as revision 1) and ``echo``."""
    models = tmp_path_factory.mktemp("models")
    server = Server(tmp_path_factory.mktemp("server"), "--gateways", "2")
    server.push("scale", scaled(models / "one", 1))
    server.serve("scale", scaled(models / "two", 2))
    server.serve("echo", echo(models / "echo"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def key(serving: Server) -> str:
    return serving.consumer()


@pytest.fixture
def headers(key: str) -> dict[str, str]:
    """New for each test: tritonclient writes into what it is given."""
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, serving: Server) -> Iterator[tuple[Any, Any]]:
    """The module and a client of it."""
    module, address = (
        (triton_http, serving.url.removeprefix("http://")) if request.param == "http" else (triton_grpc, serving.grpc)
    )
    with module.InferenceServerClient(address) as client:
        yield module, client


def as_dict(metadata: Any) -> dict[str, Any]:
    if isinstance(metadata, dict):
        return metadata
    tensors = {
        side: [{"name": t.name, "datatype": t.datatype, "shape": [*t.shape]} for t in getattr(metadata, side)]
        for side in ("inputs", "outputs")
    }
    return {"name": metadata.name, "versions": [*metadata.versions], "platform": metadata.platform, **tensors}


def test_triton_asks_how_the_server_is(triton: tuple[Any, Any], headers: dict[str, str]) -> None:
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale", headers=headers)
    assert client.is_model_ready("scale", "2", headers=headers)
    assert not client.is_model_ready("none", headers=headers)
    about = client.get_server_metadata(headers=headers)
    assert (about["name"] if isinstance(about, dict) else about.name) == "mofang"
    assert as_dict(client.get_model_metadata("scale", headers=headers)) == {
        "name": "scale",
        "versions": ["2"],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
    }


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
def test_triton_infers_over_http(serving: Server, headers: dict[str, str], binary_in: bool, binary_out: bool) -> None:
    inputs, outputs = [], []
    for name, (_, value) in KINDS.items():
        inputs.append(triton_http.InferInput(name, list(value.shape), name))
        inputs[-1].set_data_from_numpy(value, binary_data=binary_in)
        outputs.append(triton_http.InferRequestedOutput(f"{name}_out", binary_data=binary_out))
    with triton_http.InferenceServerClient(serving.url.removeprefix("http://")) as client:
        result = client.infer("echo", inputs, outputs=outputs, headers=headers, request_id="mine")
    assert result.get_response()["id"] == "mine"
    assert result.get_response()["model_version"] == "1"
    check_echo(result)


def test_triton_infers_over_grpc(serving: Server, headers: dict[str, str]) -> None:
    inputs = []
    for name, (_, value) in KINDS.items():
        inputs.append(triton_grpc.InferInput(name, list(value.shape), name))
        inputs[-1].set_data_from_numpy(value)
    with triton_grpc.InferenceServerClient(serving.grpc) as client:
        result = client.infer("echo", inputs, headers=headers, request_id="mine")
    assert (result.get_response().id, result.get_response().model_version) == ("mine", "1")
    check_echo(result)


def check_echo(result: Any) -> None:
    for name, (_, value) in KINDS.items():
        found = result.as_numpy(f"{name}_out")
        if name == "BYTES":
            found = np.array([e if isinstance(e, bytes) else e.encode() for e in found.ravel()], np.object_)
            assert found.tolist() == value.ravel().tolist()
        else:
            assert np.array_equal(found, value), name


def test_triton_is_told_of_a_wrong_key(triton: tuple[Any, Any], serving: Server, headers: dict[str, str]) -> None:
    module, client = triton
    tensor = module.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(ROW)
    wrong = headers["authorization"][:-1] + ("a" if headers["authorization"][-1] != "a" else "b")
    for given in ({"authorization": wrong}, {}):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("scale", [tensor], headers=given)
        assert caught.value.status() in ("401", "StatusCode.UNAUTHENTICATED")
        assert "key" in caught.value.message()
    tensor = module.InferInput("x", [1, 5], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 5), np.float32))
    with pytest.raises(InferenceServerException, match=r"input 'x' of endpoint 'scale' takes \[n, 4\]"):
        client.infer("scale", [tensor], headers=headers)


def test_every_answer_over_http_tells_who_made_it(serving: Server, headers: dict[str, str]) -> None:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [[1, 2, 3, 4]]}]}
    url = f"{serving.url}/v2/models/scale/infer"
    answer = httpx.post(url, json=body, headers=headers)
    assert answer.json()["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [2, 4, 6, 8]}]
    check_told(serving, answer.headers)
    refused = [
        httpx.post(url, json={}, headers=headers),
        httpx.post(url, json=body),
        httpx.get(f"{serving.url}/v2/models/none", headers=headers),
        httpx.get(f"{serving.url}/api/v1/models", headers=headers),
        httpx.get(f"{serving.url}/api/v1/nothing", headers={"authorization": f"Bearer {serving.key}"}),
        httpx.get(f"{serving.url}/nothing", headers=headers),
        httpx.get(f"{serving.url}/metrics"),
    ]
    assert [answer.status_code for answer in refused] == [400, 401, 404, 403, 404, 404, 401]
    assert len({answer.headers["x-request-id"] for answer in refused}) == len(refused)
    assert all(answer.json()["code"] and answer.json()["hint"] for answer in refused)
    assert not [*serving.client.meter.events(request_id=refused[0].headers["x-request-id"])]


def test_every_answer_over_grpc_tells_who_made_it(serving: Server, headers: dict[str, str]) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    message = pb.ModelInferRequest(model_name="scale", inputs=[tensor], raw_input_contents=[ROW.tobytes()])
    with grpc.insecure_channel(serving.grpc) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString)
        _, done = ask.with_call(message, metadata=tuple(headers.items()))
    for metadata in (done.initial_metadata(), done.trailing_metadata()):
        check_told(serving, dict(metadata))


def check_told(serving: Server, told: Any) -> None:
    version = serving.client.register.get_version("scale@2")
    assert (told["mofang-version"], told["mofang-revision"]) == ("2", "1")
    assert told["mofang-digest"] == version.digest
    events = [*serving.client.meter.events(request_id=told["x-request-id"])]
    assert {event.meter for event in events} >= {"requests", "rows", "compute_us"}
    assert {(event.request_id, event.version, event.revision, event.digest) for event in events} == {
        (told["x-request-id"], 2, 1, version.digest)
    }


def askers(serving: Server, key: str, stack: ExitStack, count: int = 8) -> list[Callable[[], Any]]:
    """Clients with connections of their own, which the kernel spreads over both gateways; half speak gRPC."""
    clients = [stack.enter_context(Client(serving.url, key, grpc=serving.grpc)) for _ in range(count)]
    protocols = ("rest", "grpc")
    return [
        lambda client=client, protocol=protocols[index % 2]: client.serve.predict(
            "scale", {"x": ROW}, protocol=protocol
        )
        for index, client in enumerate(clients)
    ]


def refusal(ask: Callable[[], Any]) -> type[MofangError] | None:
    try:
        ask()
    except MofangError as error:
        return type(error)
    return None


def test_a_revoked_key_is_refused_by_every_gateway_within_a_second(serving: Server) -> None:
    assert serving.process("gateway-1").state == "running"
    made = serving.client.identity.create_key("default")
    with ExitStack() as stack:
        asks = askers(serving, made.key, stack)
        assert [refusal(ask) for ask in asks] == [None] * len(asks)
        began = time.monotonic()
        serving.client.identity.revoke_key(made.id)
        assert [refusal(ask) for ask in asks] == [UnknownKey] * len(asks)
        assert time.monotonic() - began < 1.0
        with Client(serving.url, made.key) as client, pytest.raises(UnknownKey):
            client.register.list_models()


def test_a_key_ends_when_it_expires(serving: Server) -> None:
    made = serving.client.identity.create_key("default", expires_in_seconds=2)
    with ExitStack() as stack:
        asks = askers(serving, made.key, stack, 4)
        assert [refusal(ask) for ask in asks] == [None] * len(asks)
        wait_until(lambda: time.time() * 1e6 > (made.expires_at or 0), 3)
        assert [refusal(ask) for ask in asks] == [ExpiredKey] * len(asks)


def test_a_consumer_may_ask_and_nothing_else(serving: Server) -> None:
    with Client(serving.url, serving.consumer(), grpc=serving.grpc) as client:
        for attempt in (
            lambda: client.deploy.roll_out("scale", "scale@1"),
            lambda: client.deploy.roll_back("scale"),
            lambda: client.deploy.delete("scale"),
            lambda: client.identity.create_key("default", role="admin"),
            lambda: client.bill.set_prices("currency = 'EUR'"),
            lambda: client.register.promote("scale", 1),
            lambda: client.train.run("name = 'x'"),
            lambda: client.audit.verify(),
        ):
            with pytest.raises(Forbidden, match="consumer"):
                attempt()
        assert client.serve.predict("scale", {"x": ROW}).version == 2
