"""Every error has one row in the one table, and the rows agree with the outside's own numbers."""

from __future__ import annotations

import http
import json

import grpc
import pytest

from mofang.base.domain import errors
from mofang.surface.wire.status import TABLE, headers_of, problem, sentence, status_of


@pytest.mark.parametrize("kind", errors.KINDS)
def test_every_kind_has_a_row(kind: type[errors.MofangError]) -> None:
    assert TABLE[kind].http in {*http.HTTPStatus, 499}


@pytest.mark.parametrize("cls", errors.catalog().values())
def test_every_error_renders(cls: type[errors.MofangError]) -> None:
    error = cls("what happened", retry_after_seconds=3)
    document = json.loads(json.dumps(problem(error)))
    assert document["code"] == cls.code
    assert document["status"] == status_of(error).http
    assert sentence(error).startswith(f"error[{cls.code}]: what happened")
    assert ("retry-after", "3") in headers_of(error)


@pytest.mark.parametrize("status", TABLE.values())
def test_grpc_numbers_are_those_of_grpc(status: object) -> None:
    assert grpc.StatusCode[status.grpc_name].value[0] == status.grpc


def test_a_more_specific_row_wins() -> None:
    assert status_of(errors.MethodNotAllowed("no")).http == 405
    assert status_of(errors.TensorShape("no")).http == 400


def test_exit_codes_tell_kinds_apart() -> None:
    codes = [TABLE[kind].exit_code for kind in errors.KINDS]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
