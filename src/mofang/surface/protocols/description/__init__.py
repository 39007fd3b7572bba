"""The description of inference over REST, ``/v2`` and ``/v1``, in OpenAPI 3.1.

Made from the types that read the requests, so that it cannot say otherwise. ``docs/generate.py`` writes it to
``docs/reference/inference.openapi.json``, for those who generate clients; tests ask a server all that it allows. The
control API has a description of its own (``/api/v1/openapi.json``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from mofang import __version__
from mofang.surface.protocols.description.answers import ANSWERS, COUNT, ERRORS, TEXT
from mofang.surface.protocols.description.paths import PUBLIC, Operation, operations
from mofang.surface.protocols.oip.codec import JSON_LENGTH
from mofang.surface.protocols.oip.render import AnswerBody
from mofang.surface.protocols.repeat import HEADER
from mofang.surface.wire.status import status_of

Json = dict[str, Any]

_TIMEOUT = "x-request-timeout-ms"
_HEADERS: Json = {
    _TIMEOUT: {"type": "integer", "minimum": 1, "maximum": 3_600_000},
    HEADER: {"type": "string", "pattern": "^[!-~]{1,255}$"},
    JSON_LENGTH: COUNT,
}
_FAMILIES = {
    "/v2/health": "HealthError",
    "/v2": "OipError",
    "/v1/messages": "AnthropicError",
    "/v1": "OpenAiError",
}  # by how a path begins, the first that fits
_SCHEMAS = "#/components/schemas/"
_ABOUT = (
    "The Open Inference Protocol, version 2, with its extensions for binary tensors, generation, statistics, the "
    "repository and shared memory; and OpenAI's and Anthropic's APIs."
)


def describe_inference() -> Json:
    """Return the document."""
    found = [*operations()]
    paths: Json = {}
    for each in found:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Mofang: inference", "version": __version__, "description": _ABOUT},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "parameters": {name: {"name": name, "in": "header", "schema": schema} for name, schema in _HEADERS.items()},
            "responses": dict(_refusal(name) for each in found for name in _refusals(each)),
            "schemas": {**_taken(found), **ANSWERS, **ERRORS},
        },
    }


def _taken(found: Sequence[Operation]) -> Json:
    """Return the schemas of all types that requests are read by, and of the one that is written by its type."""
    types: set[type[msgspec.Struct]] = {AnswerBody, *(each.takes for each in found if each.takes is not None)}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    taken = msgspec.json.schema_components(ordered, ref_template=f"{_SCHEMAS}{{name}}")[1]
    for form in {each.takes.__name__ for each in found if each.takes is not None and each.form == "multipart"}:
        taken[form]["properties"]["file"] = {"type": "string", "format": "binary"}
        taken[form]["required"] = [*taken[form]["required"], "file"]
    return taken


def _operation(of: Operation) -> Json:
    refusals = {name[-3:]: {"$ref": f"#/components/responses/{name}"} for name in _refusals(of)}
    told: Json = {
        "operationId": "_".join(re.findall(r"\w+", f"{of.method}{of.path}")),
        "summary": of.about,
        "parameters": [*_parameters(of)],
        "responses": {**_answers(of), **refusals},
    }
    if of.takes is not None:
        told["requestBody"] = {"required": of.needs_body, "content": _bodies(of, _schema(of.takes.__name__))}
    if of.refusals is PUBLIC:
        told["security"] = []
    return told


def _parameters(of: Operation) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", of.path):
        yield {"name": name, "in": "path", "required": True, "schema": TEXT}
    headers = (_TIMEOUT, HEADER) if of.computes else ()
    for name in (*headers, JSON_LENGTH) if of.form == "tensors" else headers:
        yield {"$ref": f"#/components/parameters/{name}"}


def _bodies(of: Operation, schema: Json) -> Json:
    match of.form:
        case "multipart":
            return {"multipart/form-data": {"schema": schema}}
        case "tensors":
            return {"application/json": {"schema": schema}, "application/octet-stream": {"schema": {}}}
    return {"application/json": {"schema": schema}}


def _answers(of: Operation) -> Json:
    if not of.answers:
        return {}
    schema = {"schema": _schema(of.answers)}
    media = {each: schema if each == "application/json" else {} for each in of.media}
    return {"200": {"description": "the answer", "content": media}}


def _refusals(of: Operation) -> list[str]:
    """Return the names of the refusals: how errors look there, and the status."""
    family = next(name for start, name in _FAMILIES.items() if of.path.startswith(start))
    return [f"{family}{status}" for status in sorted({status_of(kind).http for kind in of.refusals})]


def _refusal(name: str) -> tuple[str, Json]:
    family, status = name[:-3], int(name[-3:])
    content = {"application/json": {"schema": _schema(family)}}
    return name, {"description": HTTPStatus(status).phrase.lower(), "content": content}


def _schema(name: str) -> Json:
    return {"$ref": f"{_SCHEMAS}{name}"}
