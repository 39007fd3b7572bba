"""Moderations over a lane whose classifier knows three words."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision, Route
from mofang.base.domain.errors import InvalidParameter, NotGenerative
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Signature, TensorSpec
from mofang.surface.protocols.http import HttpRequest
from mofang.surface.protocols.lane import Lane
from mofang.surface.protocols.openai.models import describe
from mofang.surface.protocols.openai.moderations import ModerationRequest, moderate
from mofang.surface.protocols.openai.requests import parse

SOMEBODY = Principal("k", "acme", "shop", "consumer")
CLASSIFIER = Signature(
    (TensorSpec("words", "BYTES", (-1,)),),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 3))),
)
SEEN = {b"nice": [0.9, 0.06, 0.04], b"rude": [0.2, 0.7, 0.1], b"hm": [0.3, 0.4, 0.3]}


class Judge:
    """The part of a lane that moderations ask."""

    def __init__(self, labels: tuple[str, ...] = ("safe", "insult", "threat"), signature: Any = CLASSIFIER) -> None:
        self.revision = Revision("judge", 1, "judge", 1, "sha256:j", "onnx", signature, labels=labels)

    def route(self, principal: Principal, endpoint: str) -> Route:
        return Route(self.revision, ())

    async def infer(self, request: InferRequest, principal: Principal, **about: Any) -> InferResponse:
        rows = np.array([SEEN[text] for text in next(iter(request.inputs.values()))], np.float32)
        outputs = {"label": rows.argmax(1), "probabilities": rows}
        return InferResponse(about["request_id"], request.endpoint, 1, 1, "sha256:j", outputs)


def judged(asked: Any, judge: Judge | None = None) -> dict[str, Any]:
    body = msgspec.json.encode({"model": "judge", "input": asked})
    request = HttpRequest("POST", "/v1/moderations", "", {}, body)
    wanted = parse(body, ModerationRequest)
    return asyncio.run(moderate(wanted, cast(Lane, judge or Judge()), request, SOMEBODY, "req_1"))


def test_texts_are_put_into_the_categories_of_the_model() -> None:
    answer = judged(["nice", {"type": "text", "text": "rude"}, "hm"])
    assert (answer["id"], answer["model"]) == ("req_1", "judge")
    assert [result["flagged"] for result in answer["results"]] == [False, True, False]
    rude = answer["results"][1]
    assert rude["categories"] == {"insult": True, "threat": False}
    assert rude["category_scores"] == pytest.approx({"insult": 0.7, "threat": 0.1})
    assert judged("rude")["results"] == [rude]


def picture(file: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(file).decode()}}


def test_images_are_put_into_the_categories_of_a_model_of_images() -> None:
    judge = Judge(signature=Signature((TensorSpec("image", "BYTES", (-1,)),), CLASSIFIER.outputs))
    answer = judged([picture(b"rude"), picture(b"nice")], judge)
    assert [result["flagged"] for result in answer["results"]] == [True, False]
    assert describe(judge.revision, None)["mofang"]["paths"] == ["/v1/moderations"]
    elsewhere = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    damaged = {"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}
    for wrong in ("rude", ["rude"], [picture(b"rude"), "rude"], [elsewhere], [damaged]):
        with pytest.raises(InvalidParameter, match=r"^input"):
            judged(wrong, judge)


def test_what_is_no_text_or_no_classifier_is_refused() -> None:
    for wrong in ("", [], ["nice", ""], [picture(b"x")], [{"type": "audio"}], 5):
        with pytest.raises(InvalidParameter, match=r"^input"):
            judged(wrong)
    numbers = Signature((TensorSpec("x", "FP32", (-1, 4)),), CLASSIFIER.outputs)
    for judge in (Judge(()), Judge(signature=numbers)):
        with pytest.raises(NotGenerative):
            judged("nice", judge)
        assert describe(judge.revision, None)["mofang"]["paths"] == []
    assert describe(Judge().revision, None)["mofang"]["paths"] == ["/v1/moderations"]
