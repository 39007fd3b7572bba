"""Asks a server everything that the description of its control API allows, and much that it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from servers import Server

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]


def operations(server: Server, headers: dict[str, str]) -> Iterator[schemathesis.APIOperation]:
    """Every operation of the server's description."""
    schema = schemathesis.openapi.from_url(f"{server.url}/api/v1/openapi.json", headers=headers)
    for found in schema.get_all_operations():
        yield found.ok()


def ask_everything(server: Server, mode: GenerationMode, examples: int) -> Counter[str]:
    """Ask every operation up to so many times, as the owner; return how often each was.

    Fails for an answer of 5xx, and for a status or a type of content that is not described.
    """
    headers = {"authorization": f"Bearer {server.key}"}
    asked: Counter[str] = Counter()
    for operation in operations(server, headers):

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def ask(case: schemathesis.Case) -> None:
            asked[case.operation.label] += 1
            case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

        with suppress(Unsatisfiable):  # nothing can be wrong with a request that has no parts
            ask()
    return asked
