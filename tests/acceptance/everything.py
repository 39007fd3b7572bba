"""A server with a model of each kind that ``/v2`` and ``/v1`` ask, asked all that their description allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from nets import scaled
from onnx import TensorProto, helper, numpy_helper
from schemathesis import GenerationMode
from test_moderations import brightness
from upstreams import another, serving

from fuzzing import Asked, ask_everything
from graphs import model, save, value
from mofang.surface.protocols.description import describe_inference
from mofang.surface.protocols.oip.codec import JSON_LENGTH
from mofang.surface.sdk.register import Wishes
from servers import Server

USUAL = {"EmbeddingRequest": "texts", "RerankRequest": "texts", "ModerationRequest": "light", "infer": "scale"}
"""The model that answers a sort of request; ``mini`` answers the others."""
PATIENT = 10_000  # milliseconds: a deadline that was missed is a 504 by right
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape", "data"],
    "additionalProperties": False,
    "properties": {
        "name": {"const": "x"},
        "datatype": {"const": "FP32"},
        "shape": {"const": [1, 4]},
        "data": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {"type": "number", "minimum": -9, "maximum": 9},
        },
    },
}


_VERSION = {"enum": ["1", "1", "1", "7", "x"]}


def vectors(folder: Path) -> Path:
    """``embedding`` [n, 2] of ``text`` [n], which tells whether it is "a", and ``input_tokens``: one each."""
    nodes = [
        helper.make_node("Unsqueeze", ["text", "last"], ["column"]),
        helper.make_node("Equal", ["column", "letter"], ["is"]),
        helper.make_node("Cast", ["is"], ["here"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "here"], ["not"]),
        helper.make_node("Concat", ["here", "not"], ["embedding"], axis=1),
        helper.make_node("Shape", ["text"], ["rows"]),
        helper.make_node("Expand", ["token", "rows"], ["input_tokens"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "last"),
        numpy_helper.from_array(np.array([1], np.int64), "token"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
        helper.make_tensor("letter", TensorProto.STRING, [1], [b"a"]),
    ]
    outputs = [value("embedding", ("n", 2)), value("input_tokens", ("n",), TensorProto.INT64)]
    return save(model(nodes, [value("text", ("n",), TensorProto.STRING)], outputs, constants), folder) / "model.onnx"


@contextmanager
def everything(folder: Path) -> Iterator[Server]:
    """Give a server with a number of models: ``scale``, ``texts``, ``light`` and ``mini``."""
    with (
        another(engine={"context": 4000, "slots": 16, "brittle": False}) as (url, key),
        serving(folder, url, key) as server,
    ):
        server.serve("scale", scaled(folder / "scale", 1))
        server.serve("texts", vectors(folder / "texts"))
        pushed = server.client.register.push("light", brightness(folder / "light"), wishes=Wishes(labels=("no", "yes")))
        version = server.client.jobs.wait(pushed.id).result["version"]
        server.client.deploy.roll_out("light", f"light@{version}")
        yield server


def ask_inference(server: Server, mode: GenerationMode, examples: int) -> Asked:
    """Ask every path of inference, see :func:`fuzzing.ask_everything`: of models that are there, as a rule."""
    return ask_everything(server, likely(describe_inference()), mode, examples)


def ask_batches(server: Server, mode: GenerationMode, examples: int) -> Asked:
    """Ask ``/v1/files`` and ``/v1/batches`` all that the control API says of them, with errors in OpenAI's words."""
    document = httpx.get(f"{server.url}/api/v1/openapi.json", headers={"authorization": f"Bearer {server.key}"}).json()
    document["components"]["schemas"].update(describe_inference()["components"]["schemas"])
    refusal = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAiError"}}}
    paths = {
        path.removeprefix("/api"): methods
        for path, methods in document["paths"].items()
        if path.startswith(("/api/v1/files", "/api/v1/batches"))
    }
    for operation in [operation for methods in paths.values() for operation in methods.values()]:
        for status, answer in operation["responses"].items():
            if status >= "400":
                operation["responses"][status] = {"description": answer["description"], "content": refusal}
    return ask_everything(server, document | {"paths": paths}, mode, examples)


def likely(document: dict[str, Any]) -> dict[str, Any]:
    """Return the description with names and tensors that have a meaning here, so that not all is refused for one."""
    document["components"]["parameters"]["x-request-timeout-ms"]["schema"]["minimum"] = PATIENT
    document["components"]["parameters"][JSON_LENGTH]["schema"] = {"enum": [0]}
    for path, methods in document["paths"].items():
        parameters = {"endpoint": _names(path.rpartition("/")[2]), "model": _names(""), "version": _VERSION}
        for operation in methods.values():
            for each in operation["parameters"]:
                each.update({"schema": parameters[each["name"]]} if each.get("name") in parameters else {})
    schemas = document["components"]["schemas"]
    for kind, schema in schemas.items():
        if "model" in schema.get("properties", {}) and kind.endswith("Request"):
            schema["properties"]["model"] = _names(kind)
    schemas["InferBody"]["properties"]["inputs"] = {
        "anyOf": [
            {"type": "array", "minItems": 1, "maxItems": 1, "items": TENSOR},
            {"type": "array", "items": {"$ref": "#/components/schemas/InputTensor"}},
        ]
    }
    schemas["OutputRequest"]["properties"]["name"] = {"enum": ["y", "y", "z"]}
    schemas["ImageUrl"]["properties"]["url"] = {
        "type": "string",
        "enum": [PICTURE, "data:image/png;base64,", "http://a/"],
    }
    return document


def _names(asked: str) -> dict[str, Any]:
    """Return the schema of the names of models: as a rule the one that answers what is asked."""
    usual = USUAL.get(asked, "mini")
    return {"type": "string", "enum": [usual, usual, usual, "scale", "none"]}
