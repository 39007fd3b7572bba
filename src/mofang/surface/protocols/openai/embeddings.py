"""``/v1/embeddings`` and ``/v1/rerank``: texts to vectors, and documents by how near they are to a question.

https://platform.openai.com/docs/api-reference/embeddings; rerank as Cohere and Jina have it. Any endpoint whose model
takes ``text`` and gives ``embedding`` answers, through the lane of tensors: batching, limits and bills are the same.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import InvalidParameter, NotGenerative
from mofang.base.domain.inference import InferRequest
from mofang.base.domain.tensors import Signature
from mofang.surface.protocols.lane import Lane

_MOST_TEXTS = 2048
Texts = Annotated[list[str], msgspec.Meta(min_length=1, max_length=_MOST_TEXTS)]
Vectors = NDArray[np.float32]


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/embeddings``."""

    model: str
    input: str | Texts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None


class Document(msgspec.Struct):
    """A document as an object."""

    text: str


class RerankRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/rerank``."""

    model: str
    query: str
    documents: Annotated[list[str | Document], msgspec.Meta(min_length=1, max_length=_MOST_TEXTS - 1)]
    top_n: Annotated[int, msgspec.Meta(ge=1)] | None = None
    return_documents: bool | None = None


class Asker:
    """One caller's way to the vectors of a model."""

    def __init__(self, lane: Lane, principal: Principal, request_id: str, deadline: float, input_bytes: int) -> None:
        self._lane = lane
        self._principal = principal
        self._request_id = request_id
        self._deadline = deadline
        self._input_bytes = input_bytes

    async def vectors(self, model: str, texts: Sequence[str]) -> tuple[Vectors, int]:
        """Return a vector for each text, [n, d], and the tokens of all."""
        if not embeds(self._lane.route(self._principal, model).revision.signature):
            raise NotGenerative(f"the model of {model!r} makes no embeddings")
        content = np.empty(len(texts), np.object_)
        content[:] = [text.encode("utf-8", "replace") for text in texts]
        answer = await self._lane.infer(
            InferRequest(model, {"text": content}), self._principal,
            request_id=self._request_id, deadline=self._deadline, input_bytes=self._input_bytes,
        )  # fmt: skip
        return np.asarray(answer.outputs["embedding"], np.float32), int(np.sum(answer.outputs["input_tokens"]))


def embeds(signature: Signature) -> bool:
    """Tell whether a model of this signature turns texts into vectors."""
    outputs = {spec.name for spec in signature.outputs}
    return [spec.name for spec in signature.inputs] == ["text"] and {"embedding", "input_tokens"} <= outputs


async def embed(asked: EmbeddingRequest, asker: Asker) -> dict[str, Any]:
    """Answer a request for embeddings."""
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    if not all(texts):
        raise InvalidParameter.of("input", "a text is empty")
    vectors, tokens = await asker.vectors(asked.model, texts)
    if asked.dimensions is not None:
        vectors = _shortened(vectors, asked.dimensions)
    written = [_written(vector, asked.encoding_format or "float") for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(written)]
    return {"object": "list", "data": data, "model": asked.model, "usage": _usage(tokens)}


async def rerank(asked: RerankRequest, asker: Asker) -> dict[str, Any]:
    """Answer a request to put documents in order: by the cosine of their vectors with the question's."""
    documents = [each if isinstance(each, str) else each.text for each in asked.documents]
    vectors, tokens = await asker.vectors(asked.model, [asked.query, *documents])
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = unit[1:] @ unit[0]
    order = np.argsort(-scores, kind="stable")[: asked.top_n or len(documents)]
    results = [
        {"index": int(index), "relevance_score": float(scores[index])}
        | ({"document": {"text": documents[index]}} if asked.return_documents else {})
        for index in order
    ]
    return {"model": asked.model, "results": results, "usage": _usage(tokens)}


def _shortened(vectors: Vectors, dimensions: int) -> Vectors:
    if dimensions > vectors.shape[1]:
        raise InvalidParameter.of("dimensions", f"this model has {vectors.shape[1]}")
    short = vectors[:, :dimensions]
    unit: Vectors = short / np.maximum(np.linalg.norm(short, axis=1, keepdims=True), 1e-12)
    return unit


def _written(vector: Vectors, form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
