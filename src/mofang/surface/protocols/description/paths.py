"""Every path of inference over REST: what it takes, what it answers, and as whom it may refuse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from mofang.base.domain.errors import (
    BudgetExhausted,
    Conflict,
    DeadlineExceeded,
    Exhausted,
    Forbidden,
    HeadTooLarge,
    Internal,
    Invalid,
    KeyReused,
    MofangError,
    NotFound,
    RequestTimeout,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from mofang.surface.protocols.oip.codec import InferBody
from mofang.surface.protocols.oip.generate import GenerateRequest
from mofang.surface.protocols.oip.looks import IndexRequest
from mofang.surface.protocols.oip.memory import Registration
from mofang.surface.protocols.openai.audio import AudioRequest
from mofang.surface.protocols.openai.embeddings import EmbeddingRequest, RerankRequest
from mofang.surface.protocols.openai.messages import MessageRequest
from mofang.surface.protocols.openai.moderations import ModerationRequest
from mofang.surface.protocols.openai.requests import ChatRequest, CompletionRequest
from mofang.surface.protocols.openai.responses import ResponseRequest

Kinds = Sequence[type[MofangError]]

PUBLIC: Kinds = (Invalid, RequestTimeout, TooLarge, HeadTooLarge, Unavailable)
"""What may be wrong with any request."""
_KEYED: Kinds = (*PUBLIC, Unauthenticated, Forbidden, Internal)
_NAMED: Kinds = (*_KEYED, NotFound)
_COMPUTED: Kinds = (*_NAMED, BudgetExhausted, KeyReused, Exhausted, DeadlineExceeded)
_MODEL = "/v2/models/{endpoint}"
_MEMORY = "/v2/systemsharedmemory"


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path. ``form`` is how the body of what it ``takes`` is written."""

    method: Literal["get", "post"]
    path: str
    about: str
    answers: str
    refusals: Kinds
    takes: type[msgspec.Struct] | None = None
    media: tuple[str, ...] = ("application/json",)  # of good answers
    form: Literal["json", "tensors", "multipart"] = "json"
    needs_body: bool = True

    @property
    def computes(self) -> bool:
        """Whether it costs its caller something, and may be asked with a deadline and an idempotency key."""
        return DeadlineExceeded in self.refusals


def operations() -> Iterator[Operation]:
    """Yield all of them, those of a model also with a version."""
    for each in _OPERATIONS:
        yield each
        if each.path.startswith(_MODEL):
            yield replace(each, path=each.path.replace("{endpoint}", "{endpoint}/versions/{version}"))


def _asks(path: str, takes: type[msgspec.Struct], answers: str, about: str, *media: str) -> Operation:
    """Return an operation that computes."""
    return Operation("post", path, about, answers, _COMPUTED, takes, ("application/json", *media))


_EVENTS = "text/event-stream"
_TRANSCRIPTS = ("application/json", "text/plain", "text/vtt")
_OPERATIONS = (
    Operation("get", "/v2/health/live", "whether the server lives", "Live", PUBLIC),
    Operation("get", "/v2/health/ready", "whether it takes requests", "Ready", PUBLIC),
    Operation("get", "/v2", "name, version and extensions of the server", "Server", _KEYED),
    Operation("get", _MODEL, "inputs and outputs", "ModelMetadata", _NAMED),
    Operation("get", f"{_MODEL}/ready", "whether it can answer", "ModelReady", _NAMED),
    Operation("get", f"{_MODEL}/stats", "what this gateway has counted of it", "Statistics", _NAMED),
    Operation("get", "/v2/models/stats", "what this gateway has counted", "Statistics", _KEYED),
    Operation(
        "post", f"{_MODEL}/infer", "compute", "AnswerBody", _COMPUTED, InferBody,
        ("application/json", "application/octet-stream"), "tensors",
    ),
    _asks(f"{_MODEL}/generate", GenerateRequest, "Generated", "go on from a text"),
    Operation(
        "post", f"{_MODEL}/generate_stream", "go on from a text, as server-sent events", "Generated", _COMPUTED,
        GenerateRequest, (_EVENTS,),
    ),
    Operation(
        "post", "/v2/repository/index", "all endpoints and their state", "Index", _KEYED, IndexRequest,
        needs_body=False,
    ),
    *(
        Operation("post", f"/v2/repository/models/{{endpoint}}/{verb}", "refused: loading is deploying", "",
                  (*_KEYED, Conflict))
        for verb in ("load", "unload")
    ),
    Operation("get", f"{_MEMORY}/status", "the project's regions of shared memory", "Regions", _KEYED),
    Operation("get", f"{_MEMORY}/region/{{region}}/status", "one of them", "Regions", _KEYED),
    Operation("post", f"{_MEMORY}/region/{{region}}/register", "name one", "Nothing", _KEYED, Registration),
    Operation("post", f"{_MEMORY}/region/{{region}}/unregister", "forget one", "Nothing", _KEYED),
    Operation("post", f"{_MEMORY}/unregister", "forget all", "Nothing", _KEYED),
    Operation("get", "/v1/models", "the endpoints that may be asked", "Models", _KEYED),
    Operation("get", "/v1/models/{model}", "one of them", "Model", _NAMED),
    _asks("/v1/chat/completions", ChatRequest, "ChatCompletion", "go on with a conversation", _EVENTS),
    _asks("/v1/completions", CompletionRequest, "Completion", "go on from a prompt", _EVENTS),
    _asks("/v1/responses", ResponseRequest, "Response", "OpenAI's Responses", _EVENTS),
    _asks("/v1/messages", MessageRequest, "AnthropicMessage", "Anthropic's Messages", _EVENTS),
    _asks("/v1/embeddings", EmbeddingRequest, "Embeddings", "texts to vectors"),
    _asks("/v1/rerank", RerankRequest, "Reranking", "documents by how near they are to a query"),
    _asks("/v1/moderations", ModerationRequest, "Moderation", "texts or images to the categories of a classifier"),
    *(
        Operation("post", f"/v1/audio/{verb}", f"a recording to {text}", "Transcription", _COMPUTED, AudioRequest,
                  _TRANSCRIPTS, "multipart")
        for verb, text in (("transcriptions", "text"), ("translations", "English"))
    ),
)  # fmt: skip
