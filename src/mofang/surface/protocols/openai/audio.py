"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``: recordings to text, with times if they are wanted.

https://platform.openai.com/docs/api-reference/audio. Any endpoint whose model takes ``audio`` and ``wish`` answers,
through the lane of tensors: queues, limits and bills are the same; what is metered is ``audio_seconds``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from mofang.base.domain.access import Principal
from mofang.base.domain.errors import InvalidParameter, NotGenerative
from mofang.base.domain.inference import InferRequest, InferResponse
from mofang.base.domain.tensors import Array, Signature
from mofang.surface.protocols.forms import Form, read_form
from mofang.surface.protocols.http import HttpRequest, HttpResponse
from mofang.surface.protocols.lane import Lane
from mofang.surface.protocols.openai.requests import wrong

_LARGE_BYTES = 256 << 10  # a form of more of them is read in a thread
_TEXT = "text/plain; charset=utf-8"

Json = dict[str, Any]


class AudioRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The fields of the form beside the file."""

    model: str
    language: Annotated[str, msgspec.Meta(max_length=16)] = ""
    prompt: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    timestamp_granularities: tuple[Literal["segment", "word"], ...] = ("segment",)
    stream: Literal[False] = False


def hears(signature: Signature) -> bool:
    """Tell whether a model of this signature turns recordings into text."""
    outputs = {spec.name for spec in signature.outputs}
    return [spec.name for spec in signature.inputs] == ["audio", "wish"] and {"text", "segments"} <= outputs


async def transcribe(
    lane: Lane, request: HttpRequest, principal: Principal, request_id: str, deadline: float, *, translate: bool
) -> HttpResponse:
    """Answer a request. Raises InvalidRequest, InvalidParameter, NotGenerative and what the lane raises."""
    large = len(request.body) > _LARGE_BYTES
    form = await asyncio.to_thread(read_form, request.headers, request.body) if large else read_form(
        request.headers, request.body)  # fmt: skip
    asked = _asked(form)
    words = "word" in asked.timestamp_granularities
    if words and asked.response_format != "verbose_json":
        raise InvalidParameter.of("timestamp_granularities", "it goes with response_format: verbose_json")
    if not hears(lane.route(principal, asked.model).revision.signature):
        raise NotGenerative(f"the model of {asked.model!r} reads no recordings")
    wish: Json = {"language": asked.language, "prompt": asked.prompt, "words": words, "translate": translate}
    if asked.temperature is not None:
        wish["temperature"] = asked.temperature
    answer = await lane.infer(
        InferRequest(asked.model, {"audio": _one(form.file("file")), "wish": _one(msgspec.json.encode(wish))}),
        principal, request_id=request_id, deadline=deadline, input_bytes=len(request.body),
    )  # fmt: skip
    return _written(asked, answer, translate=translate)


def _asked(form: Form) -> AudioRequest:
    """Read the fields, of which a list may be spelled ``name[]``."""
    several = {"timestamp_granularities"}
    plain: dict[str, Any] = {}
    for name, values in form.fields.items():
        bare = name.removesuffix("[]")
        plain[bare] = values if bare in several else values[-1]
    try:
        return msgspec.convert(plain, AudioRequest, strict=False)
    except msgspec.ValidationError as error:
        raise wrong(str(error)) from None


def _written(asked: AudioRequest, answer: InferResponse, *, translate: bool) -> HttpResponse:
    text = bytes(answer.outputs["text"][0]).decode()
    segments: list[Json] = msgspec.json.decode(bytes(answer.outputs["segments"][0]))
    match asked.response_format:
        case "text":
            return HttpResponse(200, [("content-type", _TEXT)], (text + "\n").encode())
        case "srt":
            return HttpResponse(200, [("content-type", _TEXT)], _srt(segments).encode())
        case "vtt":
            return HttpResponse(200, [("content-type", "text/vtt; charset=utf-8")], _vtt(segments).encode())
    seconds = int(answer.outputs["audio_seconds"][0])
    body: Json = {"text": text, "usage": {"type": "duration", "seconds": seconds}}
    if asked.response_format == "verbose_json":
        body |= _verbose(asked, answer.outputs, segments, translate=translate)
    return HttpResponse(200, [("content-type", "application/json")], msgspec.json.encode(body))


def _verbose(asked: AudioRequest, outputs: Mapping[str, Array], segments: list[Json], *, translate: bool) -> Json:
    words = [word for segment in segments for word in segment.pop("words", ())]
    body: Json = {
        "task": "translate" if translate else "transcribe",
        "language": bytes(outputs["language"][0]).decode(),
        "duration": round(float(outputs["seconds"][0]), 3),
    }
    if "segment" in asked.timestamp_granularities:
        body["segments"] = segments
    if "word" in asked.timestamp_granularities:
        body["words"] = words
    return body


def _srt(segments: Iterable[Json]) -> str:
    """Write SubRip: numbered, with a comma before the milliseconds."""
    blocks = [
        f"{number}\n{_time(each['start'], ',')} --> {_time(each['end'], ',')}\n{each['text'].strip()}\n"
        for number, each in enumerate(segments, 1)
    ]
    return "\n".join(blocks)


def _vtt(segments: Iterable[Json]) -> str:
    """Write WebVTT (https://www.w3.org/TR/webvtt1/)."""
    blocks = [
        f"{_time(each['start'], '.')} --> {_time(each['end'], '.')}\n{each['text'].strip()}\n" for each in segments
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _one(value: bytes) -> Array:
    array = np.empty(1, np.object_)
    array[0] = value
    return array
