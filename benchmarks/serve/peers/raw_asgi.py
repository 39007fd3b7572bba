"""The server an expert writes by hand: raw ASGI, msgspec and ONNX Runtime on uvicorn with uvloop and httptools.

    python raw_asgi.py MODEL_FOLDER PORT

No framework, no routes, no keys, no checks but those msgspec makes, nothing recorded: what serving costs if one leaves
out everything. Speaks the Open Inference Protocol's JSON and, for single tensors, its binary form.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import uvicorn


class Tensor(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: list[int]
    data: list[float] = []


class Request(msgspec.Struct, gc=False):
    inputs: list[Tensor]


class Answer(msgspec.Struct, gc=False):
    model_name: str
    outputs: list[Tensor]


settings = ort.SessionOptions()
settings.intra_op_num_threads = settings.inter_op_num_threads = 1
session = ort.InferenceSession(f"{sys.argv[1]}/model.onnx", settings, providers=["CPUExecutionProvider"])
outputs = [each.name for each in session.get_outputs()]
decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode
JSON = [(b"content-type", b"application/json")]
DTYPES = {"FP32": np.float32, "INT64": np.int64}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    length = next((int(v) for k, v in scope["headers"] if k == b"inference-header-content-length"), None)
    if length is None:
        (tensor,) = decode(body).inputs
        x = np.array(tensor.data, DTYPES[tensor.datatype]).reshape(tensor.shape)
    else:
        (tensor,) = decode(body[:length]).inputs
        x = np.frombuffer(body, DTYPES[tensor.datatype], offset=length).reshape(tensor.shape)
    (y,) = session.run(outputs, {tensor.name: x})
    answer = Tensor(outputs[0], "FP32", y.shape)
    if length is None:
        answer.data = y.ravel().tolist()
        content, headers = encode(Answer("tiny", [answer])), JSON
    else:
        head = encode(Answer("tiny", [answer]))
        content = head + y.tobytes()
        headers = [(b"inference-header-content-length", b"%d" % len(head))]
    headers = [*headers, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    uvicorn.run(
        app, port=int(sys.argv[2]), loop="uvloop", http="httptools", lifespan="off", access_log=False,
        log_level="warning", proxy_headers=False, server_header=False,
    )  # fmt: skip
