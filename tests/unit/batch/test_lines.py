"""Lines of batches: what is read, what is refused by line, and the names they are billed under."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mofang.base.domain.errors import InvalidBatch
from mofang.run.batch.lines import Asked, read_asked, request_id

PATH = "/v1/chat/completions"


def line(**changes: Any) -> bytes:
    return json.dumps({"custom_id": "a", "method": "POST", "url": PATH, "body": {"model": "m"}, **changes}).encode()


def test_lines_are_read_with_their_numbers() -> None:
    found = list(read_asked([line(), b"\n", line(custom_id="b") + b"\r\n"], PATH))
    assert found == [(1, Asked("a", PATH, {"model": "m"})), (3, Asked("b", PATH, {"model": "m"}))]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no requests"),
        ([b"\n"], "no requests"),
        ([line(), b"{broken"], "line 2"),
        ([b"[]"], "line 1"),
        ([b"\xff"], "line 1"),
        ([line(custom_id="")], "line 1"),
        ([line(custom_id=7)], "line 1"),
        ([line(method="GET")], "line 1"),
        ([line(url="/v1/embeddings")], "line 1 asks '/v1/embeddings'"),
        ([line(body={"stream": True})], "line 1 asks for a stream"),
        ([line(), line()], "line 2: custom_id 'a' is there twice"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_line(lines: list[bytes], told: str) -> None:
    with pytest.raises(InvalidBatch, match=told):
        list(read_asked(lines, PATH))


def test_a_line_of_a_batch_is_billed_under_one_name() -> None:
    names = {request_id(batch, number) for batch in ("job_a", "job_b") for number in range(100)}
    assert len(names) == 200
    assert request_id("job_a", 1) == request_id("job_a", 1)
    assert all(len(name) == 30 and name.startswith("req_") and name.isalnum() is False for name in names)
