"""Asks one question by a client of the protocol that others wrote; prints the bytes of each answer as JSON.

Run by a Python of its own, once for each client: all of them, and we, register the same messages of gRPC, which one
process can hold once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np

ENDPOINT = "scale"


def hexed(array: Any) -> str:
    """Return the bits of FP32 numbers."""
    return np.asarray(array, np.float32).tobytes().hex()


async def kserve(url: str, address: str, key: str, x: Any) -> dict[str, str]:
    """Ask by KServe's clients: numbers in JSON, binary tensors, gRPC."""
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

    found = {}
    rest, rpc = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)), InferenceGRPCClient(address, timeout=60)
    for name, binary in (("rest, json", False), ("rest, binary", True)):
        tensor = InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=binary)
        answer = await rest.infer(url, InferRequest(ENDPOINT, [tensor]), ENDPOINT, {"authorization": key})
        found[name] = hexed(answer.outputs[0].as_numpy())
    tensor = InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x, binary_data=True)
    answer = await rpc.infer(InferRequest(ENDPOINT, [tensor]), headers=[("authorization", key)])
    found["grpc"] = hexed(answer.outputs[0].as_numpy())
    await rest.close()
    await rpc.close()
    return found


async def openapi(url: str, address: str, key: str, x: Any) -> dict[str, str]:
    """Ask by open-inference-openapi, after a look at the model."""
    import httpx
    from open_inference.openapi.client import OpenInferenceClient
    from open_inference.openapi.types import InferenceRequest

    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    with httpx.Client(headers={"authorization": key}, timeout=60) as wire:
        client = OpenInferenceClient(base_url=url, httpx_client=wire)
        client.check_server_readiness()
        client.check_model_readiness(ENDPOINT)
        assert client.read_model_metadata(ENDPOINT).inputs[0].name == "x"
        answer = client.model_infer(ENDPOINT, request=InferenceRequest.parse_obj({"inputs": [tensor]}))
    return {"rest": hexed(json.loads(answer.json())["outputs"][0]["data"])}


async def rpc(url: str, address: str, key: str, x: Any) -> dict[str, str]:
    """Ask by the stub of open-inference-grpc."""
    import grpc
    from open_inference.grpc import protocol
    from open_inference.grpc.service import GRPCInferenceServiceStub

    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape)}
    request = protocol.ModelInferRequest(model_name=ENDPOINT, inputs=[tensor], raw_input_contents=[x.tobytes()])
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert (await stub.ServerReady(protocol.ServerReadyRequest())).ready
        answer = await stub.ModelInfer(request, metadata=[("authorization", key)])
    return {"grpc": hexed(np.frombuffer(answer.raw_output_contents[0], np.float32))}


if __name__ == "__main__":
    client, url, address, key, bits = sys.argv[1:]
    x = np.frombuffer(bytes.fromhex(bits), np.float32).reshape(1, 4)
    print(json.dumps(asyncio.run({"kserve": kserve, "openapi": openapi, "grpc": rpc}[client](url, address, key, x))))
