"""What is seen of requests on a real server: times in answers, metrics and the access log, and no payload."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from nets import scaled

from mofang.surface.server.folders import DataDirectory
from mofang.surface.wire import inference_pb2 as pb
from servers import Server

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TIMING = r"queue;dur=\d+\.\d{3}, compute;dur=\d+\.\d{3}"
SECRET = 1234.5
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [SECRET] * 4}]}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("seen") / "data", environ={"MOFANG_ACCESS_SHARE": "1"})
    server.serve("scale", scaled(tmp_path_factory.mktemp("scale"), 3))
    yield server
    server.close()


def _ask(server: Server, **headers: str) -> httpx.Response:
    key = {"authorization": f"Bearer {server.key}"}
    return httpx.post(f"{server.url}/v2/models/scale/infer", json=BODY, headers=key | headers)


def test_answers_say_how_long_they_took_and_belong_to_the_clients_trace(seen: Server) -> None:
    plain = _ask(seen)
    assert re.fullmatch(TIMING, plain.headers["server-timing"])
    assert "traceresponse" not in plain.headers
    traced = _ask(seen, traceparent=PARENT)
    assert re.fullmatch(TIMING, traced.headers["server-timing"])
    assert re.fullmatch(rf"00-{PARENT[3:35]}-[0-9a-f]{{16}}-01", traced.headers["traceresponse"])
    assert _ask(seen, traceparent="nonsense").status_code == 200


def test_grpc_says_the_same_in_its_metadata(seen: Server) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    asked = pb.ModelInferRequest(model_name="scale", inputs=[tensor])
    asked.raw_input_contents.append(np.ones(4, np.float32).tobytes())
    with grpc.insecure_channel(seen.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {seen.key}"), ("traceparent", PARENT))
        _, call = infer.with_call(asked, metadata=metadata)
    said = dict(call.trailing_metadata())
    assert re.fullmatch(TIMING, said["server-timing"])
    assert said["traceresponse"].startswith(f"00-{PARENT[3:35]}-")


def test_metrics_tell_where_the_time_went(seen: Server) -> None:
    before = _stages(seen)
    for _ in range(5):
        assert _ask(seen).status_code == 200
    end = time.monotonic() + 30
    while (after := _stages(seen)).get("compute", 0) < before.get("compute", 0) + 5:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert set(after) == {"parse", "travel", "queue", "compute", "record", "write"}
    assert len(set(after.values())) == 1


def _stages(server: Server) -> dict[str, int]:
    text = httpx.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text
    found = re.findall(r'mofang_serve_stage_seconds_count{.*endpoint="scale",stage="(\w+)"} (\d+)', text)
    return {stage: int(count) for stage, count in found}


def test_the_access_log_has_a_line_for_each_request_and_no_payload(seen: Server) -> None:
    asked = [_ask(seen, traceparent=PARENT), _ask(seen), _ask(seen, **{"x-request-timeout-ms": "5000"})]
    path = DataDirectory(seen.data).logs / "access-gateway-0.jsonl"
    ids = {response.headers["x-request-id"] for response in asked}
    lines = _lines(path, ids)
    digest = asked[0].headers["mofang-digest"]
    for line in lines:
        assert (line["endpoint"], line["outcome"], line["rows"], line["digest"]) == ("scale", "ok", 1, digest)
        assert line["key"] in seen.key
        assert line["total_us"] >= line["compute_us"]
    assert {line.get("trace_id") for line in lines} == {PARENT[3:35], None}
    assert str(SECRET) not in path.read_text()


def test_what_is_refused_before_an_endpoint_is_known_has_its_line_too(seen: Server) -> None:
    url, key = f"{seen.url}/v2/models/scale/infer", {"authorization": f"Bearer {seen.key}"}
    chat = {"model": "no-such-model", "messages": [{"role": "user", "content": str(SECRET)}]}
    asked = {
        "no key": httpx.post(url, json={}),
        "no json": httpx.post(url, content=b"{", headers=key),
        "no endpoint": httpx.post(f"{seen.url}/v2/models/none/infer", json=BODY, headers=key),
        "no chat key": httpx.post(f"{seen.url}/v1/chat/completions", json=chat, headers={"authorization": "Bearer x"}),
        "no chat": httpx.post(f"{seen.url}/v1/chat/completions", json=chat, headers=key),
    }
    ids = {name: response.headers["x-request-id"] for name, response in asked.items()}
    with grpc.insecure_channel(seen.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for name, metadata in (("no grpc key", ()), ("no message", (("authorization", f"Bearer {seen.key}"),))):
            with pytest.raises(grpc.RpcError) as caught:
                infer(b"\xff", metadata=metadata)
            ids[name] = dict(caught.value.trailing_metadata())["x-request-id"]
    path = DataDirectory(seen.data).logs / "access-gateway-0.jsonl"
    lines = {line["request_id"]: line for line in _lines(path, set(ids.values()))}
    said = {name: (lines[id]["outcome"], lines[id]["endpoint"], bool(lines[id]["key"])) for name, id in ids.items()}
    assert said == {
        "no key": ("key.missing", "scale", False),
        "no json": ("request.malformed", "scale", True),
        "no endpoint": ("endpoint.not_found", "none", True),
        "no chat key": ("key.unknown", "", False),
        "no chat": ("endpoint.not_found", "no-such-model", True),
        "no grpc key": ("key.missing", "", False),
        "no message": ("request.malformed", "", True),
    }
    assert str(SECRET) not in path.read_text()


def _lines(path: Path, ids: set[str]) -> list[dict[str, object]]:
    end = time.monotonic() + 30
    while True:
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        found = [line for line in lines if line["request_id"] in ids]
        if len(found) == len(ids):
            return found
        assert time.monotonic() < end
        time.sleep(0.05)
