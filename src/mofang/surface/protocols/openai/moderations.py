"""``/v1/moderations``: texts or images to the categories of a classifier that its owner has chosen.

https://platform.openai.com/docs/api-reference/moderations. Any endpoint answers whose model takes one text, or the file
of one ``image``, and gives ``probabilities`` of named classes, through the lane of tensors. A class that is called
``safe``, ``ok``, ``none`` or ``neutral`` says that there is nothing; every other one is a category, and flagged from a
probability of one half on.
"""

from __future__ import annotations

import base64
import re
import time
from typing import Annotated, Any

import msgspec
import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.deployment import Revision
from mofang.base.domain.errors import InvalidParameter, NotGenerative
from mofang.base.domain.inference import InferRequest
from mofang.surface.protocols.http import HttpRequest
from mofang.surface.protocols.lane import Lane, deadline_seconds

HARMLESS = frozenset({"safe", "ok", "none", "neutral"})
_OUTPUT = "probabilities"
_FLAGGED = 0.5
_MOST_PARTS = 256
_IMAGE = "image"  # what the input of files is called
_DATA_URL = re.compile(r"data:image/[a-z]+;base64,", re.ASCII)
_TIMEOUT_SECONDS = 600.0


class Text(msgspec.Struct, forbid_unknown_fields=True, tag="text", tag_field="type"):
    """A part that is text."""

    text: str


class ImageUrl(msgspec.Struct):
    """An image, in its own address: the server fetches nothing."""

    url: str


class Image(msgspec.Struct, forbid_unknown_fields=True, tag="image_url", tag_field="type"):
    """A part that is an image."""

    image_url: ImageUrl


class ModerationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /v1/moderations``."""

    model: str
    input: str | Annotated[list[str | Text | Image], msgspec.Meta(min_length=1, max_length=_MOST_PARTS)]

    def contents(self, *, images: bool) -> list[bytes]:
        """Return what is to be looked at: texts in UTF-8, or the files of ``images``. Raises InvalidParameter."""
        parts = [self.input] if isinstance(self.input, str) else self.input
        return [_file(part) if images else _text(part) for part in parts]


def moderates(revision: Revision) -> bool:
    """Tell whether a revision's model puts texts, or images, into named classes."""
    inputs = revision.signature.inputs
    takes_text = len(inputs) == 1 and inputs[0].datatype == "BYTES" and len(inputs[0].shape) == 1
    return takes_text and bool(revision.labels) and _OUTPUT in {spec.name for spec in revision.signature.outputs}


async def moderate(
    asked: ModerationRequest, lane: Lane, request: HttpRequest, principal: Principal, request_id: str
) -> dict[str, Any]:
    """Answer a request. Raises NotGenerative, InvalidParameter and what the lane raises."""
    revision = lane.route(principal, asked.model).revision
    if not moderates(revision):
        raise NotGenerative(f"the model of {asked.model!r} puts nothing into named classes")
    name = revision.signature.inputs[0].name
    found = asked.contents(images=name == _IMAGE)
    content = np.empty(len(found), np.object_)
    content[:] = found
    answer = await lane.infer(
        InferRequest(asked.model, {name: content}), principal, request_id=request_id,
        deadline=time.monotonic() + deadline_seconds(request.headers, _TIMEOUT_SECONDS), input_bytes=len(request.body),
    )  # fmt: skip
    rows = np.asarray(answer.outputs[_OUTPUT], np.float64)
    return {"id": request_id, "model": asked.model, "results": [_result(revision.labels, row) for row in rows]}


def _text(part: str | Text | Image) -> bytes:
    if isinstance(part, Image):
        raise InvalidParameter.of("input", "this model looks at texts, not at images")
    text = part if isinstance(part, str) else part.text
    if not text:
        raise InvalidParameter.of("input", "a text is empty")
    return text.encode("utf-8", "replace")


def _file(part: str | Text | Image) -> bytes:
    if not isinstance(part, Image):
        raise InvalidParameter.of("input", "this model looks at images: send parts of the type image_url")
    url = part.image_url.url
    if (head := _DATA_URL.match(url)) is None:
        raise InvalidParameter.of("input", "an image comes as data:image/png;base64,...; nothing is fetched")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except ValueError:
        raise InvalidParameter.of("input", "an image is no base64") from None


def _result(labels: tuple[str, ...], row: Any) -> dict[str, Any]:
    scores = {label: float(score) for label, score in zip(labels, row, strict=True) if label.lower() not in HARMLESS}
    categories = {label: score >= _FLAGGED for label, score in scores.items()}
    return {"flagged": any(categories.values()), "categories": categories, "category_scores": scores}
