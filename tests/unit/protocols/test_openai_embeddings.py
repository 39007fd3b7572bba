"""Embeddings and reranking over a lane that knows the vectors of a few words."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any, cast

import numpy as np
import pytest

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import InvalidParameter, NotGenerative
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.surface.protocols.lane import Lane
from mofang.surface.protocols.openai.embeddings import Asker, EmbeddingRequest, RerankRequest, embed, rerank
from mofang.surface.protocols.openai.requests import parse

SOMEBODY = Principal("k", "acme", "shop", "consumer")
ENCODER = Signature(
    (TensorSpec("text", "BYTES", (-1,)),),
    (TensorSpec("embedding", "FP32", (-1, 3)), TensorSpec("input_tokens", "INT64", (-1,))),
)
VECTORS = {"east": [1, 0, 0], "almost east": [0.8, 0.6, 0], "north": [0, 1, 0], "up": [0, 0, 2]}


class WordLane:
    """The part of a lane that embeddings ask."""

    def __init__(self, signature: Signature = ENCODER) -> None:
        self.revision = Revision("words", 1, "words", 1, "sha256:w", "encoder", signature)

    def route(self, principal: Principal, endpoint: str) -> Route:
        return Route(self.revision, ())

    async def infer(self, request: InferRequest, principal: Principal, **about: Any) -> InferResponse:
        texts = [text.decode() for text in request.inputs["text"]]
        outputs = {
            "embedding": np.array([VECTORS[text] for text in texts], np.float32),
            "input_tokens": np.array([len(text.split()) for text in texts]),
        }
        return InferResponse(about["request_id"], request.endpoint, 1, 1, "sha256:w", outputs)


def asker(lane: WordLane | None = None) -> Asker:
    return Asker(cast(Lane, lane or WordLane()), SOMEBODY, "req_1", time.monotonic() + 5, 100)


def embedded(body: str) -> dict[str, Any]:
    return asyncio.run(embed(parse(body.encode(), EmbeddingRequest), asker()))


def test_texts_become_vectors_in_their_order() -> None:
    answer = embedded('{"model": "words", "input": ["north", "almost east"]}')
    assert [(each["index"], each["object"]) for each in answer["data"]] == [(0, "embedding"), (1, "embedding")]
    np.testing.assert_allclose([each["embedding"] for each in answer["data"]], [[0, 1, 0], [0.8, 0.6, 0]], atol=1e-6)
    assert (answer["object"], answer["model"]) == ("list", "words")
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_base64_is_floats_of_four_bytes_and_dimensions_cut() -> None:
    [one] = embedded('{"model": "words", "input": "up", "encoding_format": "base64"}')["data"]
    assert np.frombuffer(base64.b64decode(one["embedding"]), "<f4").tolist() == [0, 0, 2]
    [short] = embedded('{"model": "words", "input": "almost east", "dimensions": 1}')["data"]
    assert short["embedding"] == [1.0]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"model": "words", "input": ""}', "input: "),
        ('{"model": "words", "input": []}', "input: "),
        ('{"model": "words", "input": [["x"]]}', "input"),
        ('{"model": "words", "input": "up", "dimensions": 0}', "dimensions: "),
        ('{"model": "words", "input": "up", "dimensions": 4}', "dimensions: this model has 3"),
        ('{"model": "words", "input": "up", "encoding_format": "hex"}', "encoding_format: "),
        ('{"model": "words", "input": "up", "colour": 1}', "colour: "),
        ('{"input": "up"}', "model: "),
    ],
)
def test_what_is_wrong_is_named(body: str, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        embedded(body)


def test_documents_are_ranked_by_their_nearness() -> None:
    body = b'{"model": "words", "query": "east", "documents": ["up", {"text": "almost east"}, "east"], "top_n": 2}'
    answer = asyncio.run(rerank(parse(body, RerankRequest), asker()))
    assert [result["index"] for result in answer["results"]] == [2, 1]
    assert [round(result["relevance_score"], 3) for result in answer["results"]] == [1.0, 0.8]


def test_a_model_that_makes_no_vectors_says_so() -> None:
    other = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1,)),))
    request = parse(b'{"model": "words", "input": "up"}', EmbeddingRequest)
    with pytest.raises(NotGenerative):
        asyncio.run(embed(request, asker(WordLane(other))))
