"""The lines of a batch: requests that are read, and answers that are written. Pure.

The format is that of OpenAI's batches (https://platform.openai.com/docs/guides/batch): a line asks ``{"custom_id",
"method", "url", "body"}``; another answers ``{"id", "custom_id", "response": {"status_code", "request_id", "body"},
"error"}``.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from mofang.base.domain.errors import InvalidBatch

MOST_LINES = 50_000
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank")


class Asked(msgspec.Struct, frozen=True):
    """A request."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    url: str
    body: dict[str, Any]
    method: Literal["POST"] = "POST"


class Answer(msgspec.Struct, frozen=True):
    """What came of a request."""

    status_code: int
    request_id: str
    body: Any


class Answered(msgspec.Struct, frozen=True):
    """A line of an output file."""

    id: str
    custom_id: str
    response: Answer | None
    error: dict[str, str] | None = None

    @property
    def well(self) -> bool:
        """Whether it is a good answer."""
        return self.response is not None and self.response.status_code == 200


def read_asked(lines: Iterable[bytes], path: str) -> Iterator[tuple[int, Asked]]:
    """Yield the requests with the numbers of their lines, from 1; raise InvalidBatch, naming the line.

    All ask ``path``; their ids are different; blank lines are passed over; there are at most :data:`MOST_LINES`.
    """
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            asked = msgspec.json.decode(line, type=Asked)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidBatch(f"line {number}: {str(error)[:200]}") from None
        if asked.url != path:
            raise InvalidBatch(f"line {number} asks {asked.url[:80]!r}, the batch {path!r}")
        if asked.body.get("stream"):
            raise InvalidBatch(f"line {number} asks for a stream")
        if asked.custom_id in seen:
            raise InvalidBatch(f"line {number}: custom_id {asked.custom_id[:80]!r} is there twice")
        if len(seen) >= MOST_LINES:
            raise InvalidBatch(f"there are more than {MOST_LINES:,} requests")
        seen.add(asked.custom_id)
        yield number, asked
    if not seen:
        raise InvalidBatch("the file has no requests")


def request_id(batch: str, number: int) -> str:
    """Return the id a line is billed under, whoever asks it how often: the same line of a batch has the same."""
    digest = hashlib.sha256(f"{batch}/{number}".encode()).digest()
    return "req_" + base64.b32encode(digest).decode().lower()[:26]
