"""Embeddings of the real MiniLM, asked with the openai client; reranking."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from models import MINILM_INT8, MINILM_TOKENIZER, fetch
from servers import Server, wait_until

TEXTS = ["A man is eating food.", "Somebody has a meal.", "The stock market fell sharply."]


@pytest.fixture(scope="module")
def minilm(server: Server, mofang: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("minilm")
    for pinned in (MINILM_INT8, MINILM_TOKENIZER):
        shutil.copy(fetch(pinned), folder)
    mofang("push", "minilm", str(folder), "--engine", "encoder")
    mofang("deploy", "minilm")
    return server


@pytest.fixture
def client(minilm: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{minilm.url}/v1", api_key=minilm.key, max_retries=0)


def test_near_texts_are_near(client: openai.OpenAI, minilm: Server) -> None:
    answer = client.embeddings.create(model="minilm", input=TEXTS)  # the client asks for base64
    vectors = np.array([each.embedding for each in answer.data])
    assert vectors.shape == (3, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15
    floats = client.embeddings.create(model="minilm", input=TEXTS[0], encoding_format="float")
    assert float(np.array(floats.data[0].embedding) @ vectors[0]) > 0.99  # int8, beside longer texts
    short = client.embeddings.create(model="minilm", input=TEXTS[0], dimensions=64)
    assert np.linalg.norm(short.data[0].embedding) == pytest.approx(1, abs=1e-4)
    assert len(short.data[0].embedding) == 64

    def billed() -> bool:
        rows = minilm.client.meter.usage(["endpoint"]).items
        return any(row.by["endpoint"] == "minilm" and row.quantities.get("input_tokens", 0) > 15 for row in rows)

    wait_until(billed, 20, "the tokens of the embeddings")


def test_documents_are_put_in_order(minilm: Server) -> None:
    body = {"model": "minilm", "query": "Who eats?", "documents": TEXTS[::-1], "top_n": 2, "return_documents": True}
    headers = {"authorization": f"Bearer {minilm.key}"}
    found = httpx.post(f"{minilm.url}/v1/rerank", json=body, headers=headers, timeout=60).json()
    assert {result["index"] for result in found["results"]} == {1, 2}
    assert found["results"][0]["relevance_score"] >= found["results"][1]["relevance_score"]
    assert found["results"][0]["document"]["text"] in TEXTS[:2]


def test_what_cannot_be_embedded_is_refused(client: openai.OpenAI) -> None:
    for wrong in ({"input": ""}, {"input": []}, {"input": "word " * 5000}, {"dimensions": 5000}, {"input": [[1, 2]]}):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(**{"model": "minilm", "input": "text", **wrong})  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as chat:
        client.chat.completions.create(model="minilm", messages=[{"role": "user", "content": "hi"}])
    assert chat.value.code == "generate.not_offered"


def test_pooling_is_the_models_own(tmp_path: Path) -> None:
    from mofang.base.engines.catalog import load_engine

    for pinned in (MINILM_INT8, MINILM_TOKENIZER):
        shutil.copy(fetch(pinned), tmp_path)
    texts = np.array([text.encode() for text in TEXTS], dtype=object)
    mean = load_engine("encoder", tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "modules.json").write_text("[]")
    first = load_engine("encoder", tmp_path)
    one, other = (engine.infer({"text": texts})["embedding"] for engine in (mean, first))
    assert np.abs(np.linalg.norm(one, axis=1) - 1).max() < 1e-4
    assert np.abs(np.linalg.norm(other, axis=1) - 1).max() > 0.5
    for engine in (mean, first):
        engine.close()
