"""A38: what clients send to be computed, and what they get, is in no log, metric or error, however it goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from nets import scaled
from tritonclient.grpc import service_pb2 as pb
from wires import Refusal, call, request, talk

from servers import Server, wait_until

CANARY = "c4n4ry-p4yl04d"
NUMBER = 8191.03125  # twice it is 16382.0625: both are exact in FP32, and neither is anywhere else
SHOWN = ("8191.03125", "16382.0625")
PATH = "/v2/models/scale/infer"


@pytest.fixture(scope="module")
def serving(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server.serve("scale", scaled(tmp_path_factory.mktemp("model"), 2))
    return server


def tensor(**changes: object) -> dict[str, object]:
    good: dict[str, object] = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [NUMBER] * 4}
    return good | changes


def test_payload_is_in_answers_only(serving: Server) -> None:
    key = {"authorization": f"Bearer {serving.consumer()}"}
    with httpx.Client(base_url=serving.url, headers=key) as client:
        good = client.post(PATH, json={"inputs": [tensor()]})
        assert SHOWN[1] in good.text
        for content in (
            json.dumps({"inputs": [tensor(data=[CANARY] * 4)]}),
            json.dumps({"inputs": [tensor(data=[NUMBER, CANARY, None, {}])]}),
            json.dumps({"inputs": [tensor(data=[[NUMBER] * 5])]}),
            json.dumps({"inputs": [tensor(parameters={"note": CANARY})], "parameters": {CANARY: CANARY}}),
            json.dumps({"inputs": [tensor(datatype="BYTES", data=[CANARY] * 4)]}),
            json.dumps({"inputs": [tensor(extra=CANARY)]}),
            json.dumps({"inputs": [tensor()], "outputs": [{"name": "y", "parameters": {"note": CANARY}}]}),
            f'{{"inputs": [{{"name": "x", "data": ["{CANARY}",',
            f'"{CANARY}"',
            CANARY,
        ):
            answer = client.post(PATH, content=content, headers={"content-type": "application/json"})
            assert answer.status_code in (200, 400), answer.text
            if answer.status_code == 400:
                assert CANARY not in answer.text, content
                assert not any(number in answer.text for number in SHOWN), content
        lies = {"inference-header-content-length": "9999", "content-type": "application/octet-stream"}
        assert CANARY not in client.post(PATH, content=CANARY * 10, headers=lies).text
        assert CANARY not in client.post(PATH, content=CANARY, headers={"content-encoding": "gzip"}).text
        assert CANARY not in client.post("/api/v1/sign-in", json={"user": "ada", "password": CANARY * 20}).text
        assert CANARY not in client.post("/api/v1/sign-in", json={"user": "ada", "password": [CANARY]}).text
    message = pb.ModelInferRequest(model_name="scale")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.extend([NUMBER] * 3)
    message.parameters["note"].string_param = CANARY
    refused = call(serving, "ModelInfer", message.SerializeToString(), *key.items())
    assert isinstance(refused, Refusal)
    assert CANARY not in refused.details
    refused = call(serving, "ModelInfer", CANARY.encode(), *key.items())
    assert isinstance(refused, Refusal)
    assert CANARY not in refused.details
    talk(serving, request(PATH, CANARY.encode(), f"Authorization: {key['authorization']}", f"X-Note: {CANARY}"))

    wait_until(lambda: 'endpoint="scale",outcome="ok"' in metrics_of(serving), 15)
    wait_until(lambda: len([*serving.client.meter.events(endpoint="scale")]) > 0, 10)
    assert _holders(serving, metrics_of(serving)) == []


def metrics_of(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text


def _holders(server: Server, metrics: str) -> list[str]:
    """Every file of the server, and the page of metrics, that has something of the payload."""
    words = [word.encode() for word in (CANARY, *SHOWN)]
    files = {str(path.relative_to(server.data)): _read(path) for path in server.data.rglob("*") if path.is_file()}
    assert any(name.startswith("logs/gateway") for name in files)
    assert any(name.startswith("journal/") for name in files)
    files["/metrics"] = metrics.encode()
    return [name for name, content in files.items() if any(word in content for word in words)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # gone between listing and reading
        return b""
