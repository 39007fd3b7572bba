"""Asks a server everything that a description of its API allows, and much that it does not."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from servers import Server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
Asked = Counter[tuple[str, int]]
"""How often an operation answered with a status."""


def ask_control(server: Server, mode: GenerationMode, examples: int) -> Asked:
    """Ask every operation of the control API, see :func:`ask_everything`."""
    headers = {"authorization": f"Bearer {server.key}"}
    document = httpx.get(f"{server.url}/api/v1/openapi.json", headers=headers).json()
    return ask_everything(server, document, mode, examples)


def ask_everything(server: Server, document: dict[str, Any], mode: GenerationMode, examples: int) -> Asked:
    """Ask every operation of an OpenAPI ``document`` up to so many times, as the owner; return what came of it.

    Fails for an answer of 5xx, and for a status, a type of content or a content that is not described.
    """
    headers = {"authorization": f"Bearer {server.key}"}
    asked: Asked = Counter()
    for found in schemathesis.openapi.from_dict(document).get_all_operations():

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=found.ok().as_strategy(mode))
        def ask(case: schemathesis.Case) -> None:
            answer = case.call(base_url=server.url, headers=headers, timeout=30)
            asked[case.operation.label, answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
            ask()
    return asked
